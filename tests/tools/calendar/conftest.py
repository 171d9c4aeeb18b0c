"""The server of the CalDAV tests, for the tests beside them too."""

from __future__ import annotations

from tests.tools.calendar.caldav.conftest import radicale, radicale_server

__all__ = ["radicale", "radicale_server"]
