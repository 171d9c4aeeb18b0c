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
        "A folder on the way to {0} is a symlink, and symlinks are not followed.",
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


def refusal(error: OSError, shown: str) -> TargetError:
    """The error as a value for callers.

    :param shown: the object's name for people.
    """
    code = error.errno or 0
    if code in NO_SPACE:
        unavailable = Unavailable(
            f"There is no space left for {shown}; nothing was changed.", advice="Free some space, then try again."
        )
        unavailable.code = "no_space"
        return unavailable
    if code in _REFUSALS:
        word, fact, advice = _REFUSALS[code]
        return refuse(word, fact.format(shown), advice)
    unavailable = Unavailable(
        f"The file system failed on {shown} ({errno.errorcode.get(code, 'unknown error')}).",
        advice="Try again; if it stays, check the disk.",
    )
    unavailable.code = "io_error"
    return unavailable


def refuse(code: str, fact: str, advice: str = "") -> Refused:
    """A refusal with its code."""
    refused = Refused(fact, advice=advice)
    refused.code = code
    return refused
