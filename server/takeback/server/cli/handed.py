"""The settings of a process that a server has started for itself: they come from the server, not from the configuration."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from takeback.server.cli.session import Session
from takeback.server.engine.answers import EngineError
from takeback.server.settings import Settings


async def handed_settings(session: Session, given: str | None) -> Settings:
    """The settings to work with.

    :param given: `-` for JSON on standard input, a file of JSON, or nothing: those of the configuration.
    :raises EngineError: there is no data directory.
    """
    if given is None:
        settings = session.settings()
    elif given == "-":
        settings = Settings.model_validate_json(await asyncio.to_thread(sys.stdin.read))
    else:
        settings = Settings.model_validate_json(Path(given).read_text(encoding="utf-8"))
    if not settings.data.is_dir():
        raise EngineError("not_found", f"There is no data directory {settings.data}.", "Name it with --data.")
    return settings
