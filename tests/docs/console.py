"""Runs the examples of a page: commands in ```console blocks, on a terminal of 100 columns, in a little world of their own.

What differs from run to run (ids, times, durations, the sandbox's folder) is replaced by stand-ins of the same length, so that
tables keep their shape. A line `…` in a page stands for any lines. `<!-- before: COMMAND -->` above a block is run by the shell
first and not shown. With TAKEBACK_WRITE_DOCS=1 the output is written into the page instead of compared.
"""

from __future__ import annotations

import hashlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from takeback.server.principal import local_principal

BLOCK = re.compile(r"(?P<before>(?:<!-- before: .*? -->\n)*)```console\n(?P<body>.*?)```", re.S)
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_ID = re.compile(r"\b(run|act|chk|rbk|apr|cfl|msg)_([a-z2-7]{26}|[a-z2-7]{8})\b")
_TIME = re.compile(r"(20\d\d-\d\d-\d\d([ T]))?\d\d:\d\d:\d\d(\.\d{3})?Z")
_DURATION = re.compile(r"\b\d[\d,]* ms\b")
_DIGEST = re.compile(r"\b[0-9a-f]{16}\b")
HOME = "/home/ada"


@dataclass
class Example:
    """One command with what the page says it prints."""

    command: str
    expected: list[str]


@dataclass
class Stage:
    """Where the commands run. `home` has as many characters as HOME, so that tables do not change their shape."""

    home: Path
    names: dict[str, Callable[[], str]]
    """What `$RUN` and the like stand for."""
    known: dict[str, str] = field(default_factory=lambda: dict[str, str]())

    @property
    def environment(self) -> dict[str, str]:
        """A user without configuration, and with nothing of this machine's."""
        keep = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
        return keep | {
            "HOME": str(self.home),
            "TERM": "xterm",
            "NO_COLOR": "1",
            "COLUMNS": "100",
            "LANG": "C.UTF-8",
            "TAKEBACK_DATA": str(self.home / "data"),
            "TAKEBACK_KEY_FILE": str(self.home / "key.json"),
            "TAKEBACK_ANCHOR_FILE": str(self.home / "anchors"),
        }

    def shell(self, command: str) -> None:
        """Something that happens between the lines."""
        subprocess.run(self._filled(command), shell=True, check=True, cwd=self.home / "site", env=self.environment)

    def run(self, command: str) -> list[str]:
        """One command on a terminal; its output in lines, with stand-ins."""
        words = shlex.split(self._filled(command))
        assert words[0] == "takeback", f"only takeback is run here, not {words[0]}"
        ours, theirs = pty.openpty()
        try:
            done = subprocess.Popen(
                [sys.executable, "-m", "takeback", *words[1:]],
                cwd=self.home / "site",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=theirs,
                stderr=subprocess.PIPE,
            )
            os.close(theirs)
            seen = _drained(ours)
            errors = done.communicate(timeout=60)[1]
        finally:
            os.close(ours)
        text = seen.decode().replace("\r\n", "\n") + errors.decode()
        assert "Traceback" not in text, text
        return [line.rstrip() for line in self._stand_ins(text).splitlines()]

    def json(self, *words: str) -> dict[str, object]:
        """The answer of a command, for looking up names."""
        done = subprocess.run(
            [sys.executable, "-m", "takeback", *words, "--json"],
            cwd=self.home / "site",
            env=self.environment,
            capture_output=True,
            timeout=60,
        )
        told: dict[str, object] = json.loads(done.stdout)
        return told

    def _filled(self, command: str) -> str:
        return re.sub(r"\$([A-Z]+)", lambda name: self.names[name[1]](), command)

    def _stand_ins(self, text: str) -> str:
        text = _STYLE.sub("", text).replace(str(self.home), HOME).replace(local_principal(), "local:ada")
        text = _ID.sub(self._stand_in, text)
        text = _TIME.sub(_time, text)
        text = _DURATION.sub("20 ms", text)
        return _DIGEST.sub("0123456789abcdef", text)

    def _stand_in(self, found: re.Match[str]) -> str:
        kind, token = found[1], found[2]
        key = f"{kind}_{token[:8]}"
        if key not in self.known:
            number = sum(each.startswith(kind) for each in self.known)
            self.known[key] = hashlib.sha256(f"{kind} {number}".encode()).hexdigest().translate(_LETTERS)[:26]
        return f"{kind}_{self.known[key][: len(token)]}"


def _time(found: re.Match[str]) -> str:
    day = f"2026-11-20{found[2]}" if found[1] else ""
    return f"{day}09:30:00{'.000' if found[3] else ''}Z"


_LETTERS = str.maketrans("0189", "wxyz")


def _drained(fd: int) -> bytes:
    seen = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:  # what Linux says when the other end of a terminal is closed
            return seen
        if not part:
            return seen
        seen += part


def examples(body: str) -> list[Example]:
    """The commands of a block."""
    found: list[Example] = []
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(Example(line[2:], []))
        else:
            found[-1].expected.append(line.rstrip())
    return found


def agree(expected: list[str], actual: list[str]) -> bool:
    """Whether the output is as the page says; `…` on a line of its own stands for any lines."""
    pattern = "".join(r"(?:.*\n)*?" if line.strip() == "…" else re.escape(line) + "\n" for line in expected)
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in actual)) is not None


def perform(page: Path, stage: Stage, *, write: bool) -> list[str]:
    """Run the whole page; what does not agree, as sentences."""
    text = page.read_text(encoding="utf-8")
    wrong: list[str] = []

    def block(found: re.Match[str]) -> str:
        for hidden in re.findall(r"<!-- before: (.*?) -->", found["before"]):
            stage.shell(hidden)
        lines: list[str] = []
        for example in examples(found["body"]):
            actual = stage.run(example.command)
            lines.append(f"$ {example.command}")
            if agree(example.expected, actual):
                lines += example.expected
                continue
            lines += actual
            wrong.append(
                f"{page.name}: $ {example.command}\n--- the page\n"
                + "\n".join(example.expected)
                + "\n--- the program\n"
                + "\n".join(actual)
            )
        return found["before"] + "```console\n" + "".join(f"{line}\n" for line in lines) + "```"

    written = BLOCK.sub(block, text)
    if write:
        page.write_text(written, encoding="utf-8")
        return []
    return wrong
