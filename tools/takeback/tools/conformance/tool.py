"""What is asked of a tool. One check per promise; each failure says in one sentence what was forgotten, and how to mend it."""

from __future__ import annotations

from takeback.tools.conformance.acting import ActChecks
from takeback.tools.conformance.crashing import CrashChecks
from takeback.tools.conformance.said import WordChecks


class ToolConformance(WordChecks, ActChecks, CrashChecks):
    """Derive from it and say: `examples` (or a fixture `arguments`), and the fixtures `tool` and `world`."""
