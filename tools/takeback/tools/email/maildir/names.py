"""Names in a Maildir: of folders (Maildir++ in modified UTF-7, RFC 3501 section 5.1.3), and of messages. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from typing import Final

from takeback.tools.email.port import INBOX, Flag

LETTERS: Final[dict[Flag, str]] = {
    "seen": "S",
    "answered": "R",
    "flagged": "F",
    "draft": "D",
    "passed": "P",
    "deleted": "T",
}
"""Flags by their letters in a file's name."""
INFO: Final = ":2,"
_PLAIN = re.compile(r"[\x20-\x7e]*\Z")
_ENCODED = re.compile(r"&([A-Za-z0-9+,]*)-")
LONGEST: Final = 200


def encode(text: str) -> str:
    """Modified UTF-7: `Entwürfe` is `Entw&APw-rfe`."""
    out: list[str] = []
    for plain, other in re.findall(r"([\x20-\x7e]+)|([^\x20-\x7e]+)", text):
        if plain:
            out.append(plain.replace("&", "&-"))
        else:
            coded = base64.b64encode(other.encode("utf-16-be")).decode().rstrip("=").replace("/", ",")
            out.append(f"&{coded}-")
    return "".join(out)


def decode(text: str) -> str:
    """The other way round; what is no modified UTF-7 stays as it is (some programs write UTF-8)."""

    def one(found: re.Match[str]) -> str:
        if not found[1]:
            return "&"
        coded = found[1].replace(",", "/")
        return base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True).decode("utf-16-be")

    try:
        decoded = _ENCODED.sub(one, text)
    except (binascii.Error, UnicodeDecodeError):
        return text
    return decoded if encode(decoded) == text else text


def folder_of(directory: str) -> str | None:
    """The folder that a directory of the Maildir holds: `.Archive.2024` is `Archive/2024`; `None`: it is none."""
    if not directory.startswith(".") or len(directory) < 2 or ".." in directory or directory.endswith("."):
        return None
    parts = [decode(part) for part in directory[1:].split(".")]
    # a name that does not lead back to this directory would mean another one
    name = "/".join(parts)
    return name if name != INBOX and directory_of(name) == directory else directory


def directory_of(folder: str) -> str | None:
    """The directory of a folder (empty for INBOX); `None`: there can be none of that name."""
    if folder == INBOX:
        return ""
    if folder.startswith("."):
        plain = "/" not in folder and "\0" not in folder and ".." not in folder and not folder.endswith(".")
        return folder if plain and len(folder) > 1 else None
    parts = folder.split("/")
    if any(not part or "." in part or any(ord(c) < 32 or 127 <= ord(c) < 160 for c in part) for part in parts):
        return None
    try:
        name = "." + ".".join(encode(part) for part in parts)
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return name if len(name) <= LONGEST and "/" not in name else None


def split(name: str) -> tuple[str, str]:
    """Base name and info (`:2,FS`) of a message's file."""
    base, colon, info = name.partition(":")
    return base, colon + info


def letters(info: str) -> frozenset[str] | None:
    """The flags in an info; `None`: it is none that this program may write anew."""
    if not info:
        return frozenset()
    return frozenset(info[len(INFO) :]) if info.startswith(INFO) and "," not in info[len(INFO) :] else None


def info_of(flags: Iterable[str]) -> str:
    """The info that says these flags, in the order that the format asks for."""
    return INFO + "".join(sorted(flags))


def is_key(key: str) -> bool:
    """Whether a text can be the base name of a message."""
    return (
        0 < len(key) <= 1000
        and not key.startswith(".")
        and not re.search(r"[/:\x00-\x1f\x7f]", key)
        and not re.search(r"[\ud800-\udfff]", key)
    )
