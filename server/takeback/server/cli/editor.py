"""A text in the person's own editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from takeback.server.engine.answers import EngineError


def in_an_editor(text: str) -> str | None:
    """The text as the person left it in `$VISUAL` or `$EDITOR`; `None`: as it was. Nobody else can read the file.

    :raises EngineError: there is no editor, it failed, or what it left is no UTF-8.
    """
    fallback = "notepad" if sys.platform == "win32" else "vi"
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or fallback
    with tempfile.TemporaryDirectory(prefix="takeback-") as folder:
        file = Path(folder) / "message.txt"
        file.write_text(text, encoding="utf-8", newline="\n")
        try:
            subprocess.run([*shlex.split(command), str(file)], check=True)  # noqa: S603 -- the person's own choice
            written = file.read_text(encoding="utf-8")
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise EngineError(
                "no_editor", f"The editor {command!r} did not do it: {error}.", "Set $EDITOR, or use the options."
            ) from error
    return None if written == text else written
