"""Claude Code through its own command: its file is written by every session, and the command knows how to go about that."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from takeback.server.engine.answers import EngineError


@dataclass(frozen=True, slots=True)
class Binary:
    """The `claude` command."""

    path: str

    @classmethod
    def found(cls) -> Self | None:
        """The one on the PATH, unless it is a batch file, whose quoting would break JSON."""
        path = shutil.which("claude")
        return None if path is None or path.lower().endswith((".cmd", ".bat")) else cls(path)

    def add(self, name: str, server: Mapping[str, Any]) -> None:
        """Put a server into the user's configuration.

        :raises EngineError: the command refused.
        """
        self._run("add-json", name, json.dumps(server), "--scope", "user")

    def remove(self, name: str) -> None:
        """Take a server out of it.

        :raises EngineError: the command refused.
        """
        self._run("remove", name, "--scope", "user")

    def _run(self, *words: str) -> None:
        try:
            done = subprocess.run(  # noqa: S603 -- the words are ours, and no shell reads them
                [self.path, "mcp", *words], capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise EngineError(
                "refused", f"{self.path} could not be run: {error}.", "Repair it, or name the file with --file."
            ) from error
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split()).rstrip(".")
            raise EngineError(
                "refused",
                f"claude mcp {words[0]} {words[1]} failed: {said}.",
                "Mend that, or name the file with --file.",
            )
