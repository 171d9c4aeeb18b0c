"""The words of the engine for somebody at a terminal: it names what a model calls, and here these are commands."""

from __future__ import annotations

import re
from typing import Final

_COMMANDS: Final = {
    "list_runs": "takeback runs",
    "get_run": "takeback show",
    "list_checkpoints": "takeback checkpoints",
    "list_versions": "takeback versions",
    "resume_from": "takeback resume",
    "rollback_run": "takeback rollback",
    "redo_rollback": "takeback redo",
    "restore_version": "takeback versions --restore",
    "resolve_conflict": "takeback resolve",
    "contain_run": "takeback contain",
}
"""The command that does what the tool does."""
_NAMED: Final = re.compile(rf"\b({'|'.join(_COMMANDS)})\b")


def in_commands(words: str) -> str:
    """The same words, with commands in the place of tools."""
    return _NAMED.sub(lambda found: _COMMANDS[found[1]], words)
