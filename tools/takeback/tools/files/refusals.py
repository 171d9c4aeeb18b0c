"""What the operating system refuses, as one sentence of fact and one of advice."""

from __future__ import annotations

import errno
from typing import Final

from takeback.tools.system import Refused, TargetError, Unavailable

NO_SPACE: Final = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})

_REFUSALS: Final[dict[int, tuple[str, str, str]]] = {
    errno.ENOENT: ("not_found", "{0} does not exist.", "List its folder to see what is there."),
    errno.ENOTDIR: ("not_a_directory", "A part of {0} is a file, not a folder.", "Check the path."),
    errno.EISDIR: ("is_directory", "{0} is a folder.", "Name a file in it."),
    errno.ELOOP: (
        "symlink_in_path",
        "{0} leads through a symlink, and symlinks are not followed.",
        "Use the path that the link points to, if it lies in the workspace.",
    ),
    errno.EXDEV: (
        "other_mount",
        "{0} lies on another file system, so it cannot be moved in one step.",
        "Copy it, then delete the original.",
    ),
    errno.EACCES: ("no_permission", "This process may not change {0}.", "Change its permissions, or its folder's."),
    errno.EPERM: (
        "not_permitted",
        "The system does not permit changing {0} (it may be immutable, or belong to somebody else).",
        "Look at its attributes and its owner.",
    ),
    errno.EROFS: ("read_only", "{0} lies on a read-only file system.", "Mount it writable, or write elsewhere."),
    errno.ENAMETOOLONG: ("name_too_long", "The name of {0} is too long for its file system.", "Choose a shorter name."),
    errno.EMLINK: ("too_many_links", "{0} has as many links as its file system allows.", "Remove one of them first."),
    errno.ENOTEMPTY: ("not_empty", "The folder {0} is not empty.", "Pass recursive to delete it with its contents."),
    errno.EINVAL: ("bad_name", "The file system does not take the name {0}.", "Choose another name."),
    errno.EILSEQ: ("bad_name", "The file system does not take the name {0}.", "Choose another name."),
    errno.EEXIST: ("exists", "{0} exists already.", "Choose another name, or overwrite it."),
    errno.EBUSY: ("busy", "{0} is in use by the system (a mount point, perhaps).", "Unmount it, or leave it alone."),
    errno.EFBIG: ("too_large", "{0} would be larger than its file system allows.", "Write less."),
}

_TOO_MANY: Final = (
    "too_many_open",
    "Too many files are open, so {0} could not be opened.",
    "Close what is not needed, or raise the limit of open files.",
)
_FAILURES: Final[dict[int, tuple[str, str, str]]] = {
    errno.EMFILE: _TOO_MANY,
    errno.ENFILE: _TOO_MANY,
    errno.ETXTBSY: ("busy", "{0} is a program that is running right now.", "Stop it first, then try again."),
    errno.ENOMEM: ("no_memory", "There is not enough memory to work on {0}.", "Close other programs, then try again."),
    getattr(errno, "ESTALE", errno.EIO): (
        "io_error",
        "The server that {0} lies on no longer knows it.",
        "Mount its file system again, then try again.",
    ),
    errno.EIO: ("io_error", "The disk could not read or write {0}.", "Check the disk, then try again."),
    errno.ENODEV: ("io_error", "The device that {0} lies on is gone.", "Attach it again, then try again."),
}
"""What may pass; nothing was changed."""


class Unreachable(OSError):
    """A folder could not be opened; `shown` is its name for people."""

    def __init__(self, error: OSError, shown: str) -> None:
        super().__init__(error.errno, error.strerror, error.filename)
        self.shown = shown


def refusal(error: OSError, shown: str) -> TargetError:
    """The error as a value for callers.

    :param shown: the object's name for people, where the error does not know a better one.
    """
    code = error.errno or 0
    if isinstance(error, Unreachable):
        shown = error.shown
    if code in NO_SPACE:
        unavailable = Unavailable(
            f"There is no space left for {shown}; nothing was changed.", advice="Free some space, then try again."
        )
        unavailable.code = "no_space"
        return unavailable
    if code in _REFUSALS:
        word, fact, advice = _REFUSALS[code]
        return refuse(word, fact.format(shown), advice)
    word, fact, advice = _FAILURES.get(
        code, ("io_error", "The file system failed on {0}.", "Try again; if it stays, check the disk.")
    )
    failed = Unavailable(fact.format(shown), advice=advice)
    failed.code = word
    return failed


def refuse(code: str, fact: str, advice: str = "") -> Refused:
    """A refusal with its code."""
    refused = Refused(fact, advice=advice)
    refused.code = code
    return refused


def too_deep(shown: str) -> Refused:
    """For folders in folders in folders, more than can be walked."""
    return refuse(
        "too_deep", f"{shown} has folders nested more deeply than can be followed.", "Work on a folder further inside."
    )
