"""Random trees, random histories of prepared changes over them, and random edits by somebody else."""

from __future__ import annotations

import os
import random
from pathlib import Path

from takeback.tools.files.paths import escape
from takeback.tools.files.staged import Staged
from takeback.tools.files.system import FileSystem
from takeback.tools.system import Refused

HISTORIES = int(os.environ.get("TAKEBACK_HISTORIES", "120"))
"""How many each property is tried on."""

NAMES = [b"a", b"b", b"c.txt", b"d d", b"\xff\xfe", "é".encode(), b"-x", b"\\x41"]


def grow(root: Path, rng: random.Random) -> None:
    """A tree with what trees have: links of both kinds, holes, attributes, odd names, odd modes."""
    folders = [os.fsencode(root)]
    files: list[bytes] = []
    for _ in range(rng.randint(2, 12)):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if os.path.lexists(path):
            continue
        match rng.randint(0, 9):
            case 0 | 1 | 2:
                os.mkdir(path, rng.choice([0o755, 0o700, 0o775]))
                folders.append(path)
            case 3:
                os.symlink(rng.choice([b"a", b"../b", b"/nowhere"]), path)
            case 4 if files:
                os.link(rng.choice(files), path)
            case 5:
                with open(path, "wb") as file:
                    file.seek(rng.choice([100_000, 1_000_000]))
                    file.write(b"end")
                    file.truncate(rng.choice([1_000_003, 2_000_000]))
                files.append(path)
            case _:
                with open(path, "wb") as file:
                    file.write(text(rng))
                os.chmod(path, rng.choice([0o644, 0o600, 0o755, 0o4755]))
                if rng.random() < 0.3:
                    os.setxattr(path, "user.note", rng.randbytes(5))
                if rng.random() < 0.3:
                    os.chown(path, 1234, 4321)
                files.append(path)
        if not os.path.islink(path):
            os.utime(path, ns=(rng.randint(0, 10**18), rng.randint(0, 10**18)))


def text(rng: random.Random) -> bytes:
    """A few lines; sometimes many, sometimes bytes."""
    match rng.randint(0, 9):
        case 0:
            return b""
        case 1:
            return rng.randbytes(rng.choice([10, 40_000, 100_000]))
        case 2:
            return b"".join(b"line %d %d\n" % (i, rng.randint(0, 9)) for i in range(5000))
        case _:
            return b"".join(b"line %d %d\n" % (i, rng.randint(0, 9)) for i in range(rng.randint(1, 40)))


def any_path(root: Path, rng: random.Random, *, existing: float = 0.7) -> str:
    """An id of something that is there, or could be."""
    found = [os.fsencode(root)]
    for folder, folders, files in os.walk(os.fsencode(root)):
        if b".takeback" in folders:
            folders.remove(b".takeback")
        found += [os.path.join(folder, name) for name in folders + files]
    path = rng.choice(found)
    if rng.random() > existing or path == os.fsencode(root):
        path = os.path.join(path, rng.choice(NAMES))
        if rng.random() < 0.2:
            path = os.path.join(path, rng.choice(NAMES))
    return escape(path)


async def random_change(system: FileSystem, root: Path, rng: random.Random) -> Staged | None:
    """One prepared change; `None` if what was drawn is refused."""
    path = any_path(root, rng)
    try:
        object_id = system.resolve(path)
        match rng.randint(0, 9):
            case 0 | 1 | 2 | 3:
                return await system.stage_write(object_id, text(rng))
            case 4 | 5:
                return await system.stage_delete(object_id, recursive=rng.random() < 0.8)
            case 6 | 7:
                other = system.resolve(any_path(root, rng, existing=0.4))
                return await system.stage_move(object_id, other, overwrite=rng.random() < 0.7)
            case 8:
                other = system.resolve(any_path(root, rng, existing=0.4))
                return await system.stage_copy(object_id, other, overwrite=rng.random() < 0.7)
            case _:
                return await system.stage_directory(object_id)
    except Refused:
        return None
