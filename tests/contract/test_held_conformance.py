"""A tool whose acts wait in the outbox, put through the kit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.ticketing import OpenTicket

from takeback.tools.conformance import ToolConformance, World, kit_services


class TestOpenTicket(ToolConformance):
    tool_class = OpenTicket
    examples = ({"text": "It is cold."},)

    @pytest.fixture
    def tool(self, tmp_path: Path) -> OpenTicket:
        return OpenTicket(kit_services(tmp_path))

    @pytest.fixture
    def world(self, tool: OpenTicket) -> World:
        def somebody_edits() -> Callable[[], bool]:
            [file] = tool.folder.glob("ticket-*")
            file.write_text("It is warm.")
            return lambda: file.read_text() == "It is warm."

        return World(tool.tickets, foreign_edit=somebody_edits)
