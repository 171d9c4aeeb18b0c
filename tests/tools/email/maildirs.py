"""A Maildir as another mail program sees and changes it: plain files, nothing of ours."""

import os
from pathlib import Path

TIME = 1_700_000_000_123_456_789

LETTER = (
    b"From: Anna Berg <anna@example.org>\r\nTo: me@localhost\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?= %d\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0100\r\nMessage-ID: <m%d@example.org>\r\n\r\nHello number %d.\r\nMixed\nends\r\n"
)


def letter(number: int) -> bytes:
    return LETTER % (number, number, number)


def make(path: Path, folders=(".Sent", ".Trash", ".Drafts", ".Archive.2024")) -> Path:
    for folder in ("", *folders):
        for sub in ("tmp", "new", "cur"):
            (path / folder / sub).mkdir(parents=True)
    return path


def put(path: Path, name: str, content: bytes, folder: str = "", sub: str = "cur", at: int = TIME) -> Path:
    file = path / folder / sub / name
    file.write_bytes(content)
    os.utime(file, ns=(at, at))
    return file


def tree(path: Path) -> dict[str, tuple[bytes, int]]:
    """Every message, with its bytes and time."""
    return {
        str(file.relative_to(path)): (file.read_bytes(), file.stat().st_mtime_ns)
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "maildirfolder"
    }


def filled(path: Path) -> Path:
    make(path)
    put(path, "1.a.host:2,S", letter(1))
    put(path, "2.b.host,S=99", letter(2), sub="new")
    put(path, "3.c.host:2,FSab", letter(3), at=TIME + 10**9)
    put(path, "4.d.host:2,", letter(4), folder=".Archive.2024")
    put(path, "5.e.host", letter(5))
    return path
