"""What the exit codes of the command line mean. Scripts may rely on them."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """One meaning per number; the documents list the same."""

    OK = 0
    """Done, and nothing is left open."""
    OPEN = 1
    """Done as far as it could be: something is open, partial or unsound, and the output says what."""
    USAGE = 2
    """The command, an option or the configuration cannot be used as given. Nothing has changed."""
    NOT_FOUND = 3
    """There is no such run, checkpoint, object …, or it is not yours."""
    REFUSED = 4
    """Not allowed as things stand, or waiting for a person's consent. Nothing has changed."""
    DAMAGED = 5
    """The journal is damaged, its key is missing, or the disk failed."""
    INTERNAL = 70
    """A mistake in takeback itself."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C; what was in flight is in the journal."""


_BY_WORD = {
    "not_found": ExitCode.NOT_FOUND,
    "nothing": ExitCode.NOT_FOUND,
    "invalid": ExitCode.USAGE,
    "usage": ExitCode.USAGE,
    "ambiguous": ExitCode.USAGE,
    "journal_broken": ExitCode.DAMAGED,
    "key_unavailable": ExitCode.DAMAGED,
    "internal": ExitCode.INTERNAL,
}


def code_of(word: str) -> ExitCode:
    """The exit code for the stable word of an error; a refusal unless it is known to be something else."""
    return _BY_WORD.get(word, ExitCode.REFUSED)
