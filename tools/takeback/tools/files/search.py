"""Finding names and text. Pure, but for the searcher's child process.

Names are matched by globs, folder by folder, in time that grows with the product of both lengths. Text is matched as it is, and
as a regular expression. An expression can take longer than the world will last on thirty characters, holding every other call
up meanwhile, and nothing inside a process can stop it: so expressions run in a child process, which is killed when time is up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import translate
from types import TracebackType
from typing import Self

from takeback.tools.files import matcher

_WILD = re.compile(r"[*?\[{]")
_SPECIAL = re.compile(r"[\\.^$*+?{}\[\]|()]")
_ALTERNATIVES = 64
"""What `{a,b}` in a glob may multiply to."""


class BadPattern(Exception):
    """A glob that means nothing."""


class TooSlow(Exception):
    """The expression needs more time on one file than a search may take."""


class Glob:
    """A pattern for paths.

    `*` and `?` stay within a name, `**` spans folders, `[…]` and `{a,b}` work as in a shell. Without a slash the pattern is
    held against the last name, else against the whole path below the folder searched. Without any wildcard it is found inside
    names, whatever the case of letters.
    """

    def __init__(self, pattern: str) -> None:
        """
        :raises BadPattern: it is empty, or its alternatives multiply beyond reason.
        """
        pattern = pattern.strip().removeprefix("./").strip("/")
        if not pattern:
            raise BadPattern("The pattern is empty.")
        self._contained = None if _WILD.search(pattern) else pattern.casefold()
        self._whole = "/" in pattern
        self._choices = [
            [None if part == "**" else re.compile(translate(part)) for part in choice.split("/")]
            for choice in _alternatives(pattern)
        ]

    def matches(self, path: str) -> bool:
        """Whether a path (with slashes, below the folder searched) is meant."""
        subject = path if self._whole else path.rsplit("/", 1)[-1]
        if self._contained is not None:
            return self._contained in subject.casefold()
        return any(_fits(choice, subject.split("/")) for choice in self._choices)


def _alternatives(pattern: str) -> list[str]:
    done: list[str] = []
    open_ = [pattern]
    while open_:
        text = open_.pop()
        found = re.search(r"\{([^{}]*,[^{}]*)\}", text)
        if found is None:
            done.append(text)
            continue
        open_ += [text[: found.start()] + choice + text[found.end() :] for choice in found.group(1).split(",")]
        if len(open_) + len(done) > _ALTERNATIVES:
            raise BadPattern(f"The alternatives of the pattern multiply to more than {_ALTERNATIVES}.")
    return done


def _fits(parts: Sequence[re.Pattern[str] | None], names: Sequence[str]) -> bool:
    # reachable[j]: the parts so far can stand for the first j names
    reachable = [True] + [False] * len(names)
    for part in parts:
        if part is None:
            first = reachable.index(True) if True in reachable else len(reachable)
            reachable = [at >= first for at in range(len(reachable))]
        else:
            reachable = [False] + [reachable[at] and part.match(name) is not None for at, name in enumerate(names)]
    return reachable[-1]


# -- text --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Line:
    """A line that matches."""

    number: int
    text: str
    """Cut to `matcher.WIDTH` characters around the match."""


class Searcher:
    """Looks for text in texts; close it, or use it as a context manager. Blocking: call it in a thread.

    A line matches if it contains the wanted text, or if the text is a regular expression and matches in it.
    """

    def __init__(self, wanted: str, *, seconds: float) -> None:
        """
        :param seconds: for all texts together.
        """
        self._wanted = wanted
        self._deadline = time.monotonic() + seconds
        self._child: subprocess.Popen[bytes] | None = None
        self.problem = ""
        """Why the wanted text is no regular expression, and only looked for as it is; empty if it is one."""
        self._expression = _SPECIAL.search(wanted) is not None
        if self._expression:
            try:
                with warnings.catch_warnings(action="ignore"):
                    re.compile(wanted)
            except (re.error, RecursionError, OverflowError) as error:
                self.problem, self._expression = str(error), False

    @property
    def out_of_time(self) -> bool:
        """Whether the time for all texts is used up."""
        return time.monotonic() >= self._deadline

    def lines(self, text: str, limit: int) -> list[Line]:
        """The first lines of a text that match.

        :raises TooSlow: the time is up, in the middle of this text.
        """
        found = self._ask(text, limit) if self._expression else matcher.literal_lines(self._wanted, text, limit)
        return [Line(number, line) for number, line in found]

    def _ask(self, text: str, limit: int) -> list[tuple[int, str]]:
        child = self._child or self._start()
        assert child.stdin is not None and child.stdout is not None
        timer = threading.Timer(max(0.0, self._deadline - time.monotonic()), child.kill)
        timer.start()
        try:
            data = text.encode("utf-8")
            child.stdin.write(b"%d %d\n" % (len(data), limit) + data)
            child.stdin.flush()
            answer = child.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if not answer.endswith(b"\n"):
            raise TooSlow
        return [(int(number), str(line)) for number, line in json.loads(answer)]

    def _start(self) -> subprocess.Popen[bytes]:
        # isolated (-I -S): it needs nothing but the standard library, and starts three times as fast
        child = subprocess.Popen(  # noqa: S603 -- our own interpreter and our own file; the expression goes in as data
            [sys.executable, "-I", "-S", matcher.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._child = child
        assert child.stdin is not None
        child.stdin.write(json.dumps(self._wanted).encode() + b"\n")
        return child

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                try:
                    if pipe is not None:
                        pipe.close()
                except BrokenPipeError:
                    continue  # what was still to be written to a child that is gone

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
