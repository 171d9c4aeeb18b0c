"""The demo's little world, and a way to fingerprint it that shares nothing with the server it is there to check."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

CONFIG = "site.toml"
DRAFTS = "drafts"

_FILES = {
    CONFIG: """\
# The public site
title = "Second quarter"
report = "reports/q2.md"

[build]
minify = true
drafts = false

[contact]
mail = "office@example.org"
""",
    "reports/q2.md": "# Second quarter\n\nRevenue grew by 4 per cent.\n",
    f"{DRAFTS}/q3.md": "# Third quarter (draft)\n\nRevenue grew by 6 per cent.\n",
    f"{DRAFTS}/ideas.txt": "A chart for the front page?\n",
    f"{DRAFTS}/old/q1.md": "# First quarter\n",
    "data/sales.csv": "month,revenue\n2026-07,120\n2026-08,131\n2026-09,127\n",
}


def build(workspace: Path) -> None:
    """Make the world."""
    for name, content in _FILES.items():
        path = workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode())
    if os.name == "posix":
        (workspace / "data" / "sales.csv").chmod(0o640)


def persons_edit(workspace: Path) -> None:
    """What a person does meanwhile, in an editor, without asking anybody: another address in the same file."""
    path = workspace / CONFIG
    path.write_bytes(path.read_bytes().replace(b"office@example.org", b"press@example.org"))


def fingerprint(workspace: Path) -> dict[str, str]:
    """Every name below the workspace with the digest of its kind, permissions and content."""
    found: dict[str, str] = {}
    for folder, folders, files in os.walk(workspace):
        if Path(folder) == workspace and ".takeback" in folders:
            folders.remove(".takeback")  # the server's own trash, where the data directory is on another disk
        for name in [*folders, *files]:
            path = Path(folder, name)
            info = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
            meaning = f"{stat.S_IFMT(info.st_mode)} {stat.S_IMODE(info.st_mode):o} ".encode() + content
            found[path.relative_to(workspace).as_posix()] = hashlib.sha256(meaning).hexdigest()
    return found


def differences(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """Names that are not the same on both sides."""
    return sorted(name for name in a.keys() | b.keys() if a.get(name) != b.get(name))


def digest(world: dict[str, str]) -> str:
    """One short word for the whole world."""
    lines = "".join(f"{name} {each}\n" for name, each in sorted(world.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
