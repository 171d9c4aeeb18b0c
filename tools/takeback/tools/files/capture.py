"""Images of files in the object store: for what is changed in place, and against the loss of a trash.

An image is a JSON value: type, mode, owner, mtime, xattrs, and the extents of content by the names of their objects. Holes stay
holes.
"""

from __future__ import annotations

import base64
import errno
import os
import stat
from collections.abc import Callable, Iterator
from typing import Any, Final

from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.tools.files.calls import OPEN_NEW, Calls, Xattrs
from takeback.tools.files.fingerprint import Measured
from takeback.tools.files.trash import Slot

BLOCK: Final = 4 * 1024 * 1024
Image = dict[str, JsonValue]
Get = Callable[[str], bytes]
"""Fetch an object by name (from a worker thread)."""
Put = Callable[[bytes], str]


def _facts(there: os.stat_result, xattrs: Xattrs) -> Image:
    return {
        "mode": stat.S_IMODE(there.st_mode),
        "uid": there.st_uid,
        "gid": there.st_gid,
        "mtime": there.st_mtime_ns,
        "xattrs": [[key, base64.b64encode(value).decode("ascii")] for key, value in xattrs],
    }


def small_image(measured: Measured, objects: ObjectStore) -> tuple[Image, tuple[str, ...], dict[str, bytes]] | None:
    """Image, names and blobs of what was measured with its content, if it is small enough to travel with the intent."""
    there, data, kind = measured.stat, measured.data, measured.state.kind
    if there is None or data is None or len(data) > SMALL or kind not in {"file", "symlink"}:
        return None
    name, blobs = objects.small(data)
    extents: JsonValue = [[0, len(data), name]]
    image: Image = {"kind": kind, **_facts(there, measured.xattrs), "size": len(data), "extents": extents}
    return image, (name,), dict(blobs)


def folder_image(there: os.stat_result, xattrs: Xattrs) -> Image:
    """The image of an empty folder."""
    return {"kind": "directory", **_facts(there, xattrs), "size": 0, "extents": []}


def facts_image(measured: Measured) -> Image:
    """Type, mode, owner and attributes of a file, with no content yet."""
    assert measured.stat is not None
    return {"kind": "file", **_facts(measured.stat, measured.xattrs), "size": 0, "extents": []}


def extents(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Offset and length of what is not a hole, in blocks."""
    here = 0
    while here < size:
        try:
            start = os.lseek(fd, here, os.SEEK_DATA) if hasattr(os, "SEEK_DATA") else here
            here = os.lseek(fd, start, os.SEEK_HOLE) if hasattr(os, "SEEK_HOLE") else size
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            raise
        for offset in range(start, here, BLOCK):
            yield offset, min(BLOCK, here - offset)


def file_image(fd: int, there: os.stat_result, xattrs: Xattrs, put: Put) -> tuple[Image, tuple[str, ...]]:
    """Copy a whole file into the object store; image and names."""
    blocks: list[JsonValue] = []
    names: list[str] = []
    for offset, length in extents(fd, there.st_size):
        data = _pread(fd, length, offset)
        names.append(put(data))
        blocks.append([offset, len(data), names[-1]])
    image: Image = {"kind": "file", **_facts(there, xattrs), "size": there.st_size, "extents": blocks}
    return image, tuple(names)


def content_image(content: bytes, like: Image, mtime_ns: int, put: Put) -> tuple[Image, tuple[str, ...]]:
    """The image of other content under the same mode, owner and xattrs."""
    blocks: list[JsonValue] = []
    names: list[str] = []
    for offset in range(0, len(content), BLOCK):
        block = content[offset : offset + BLOCK]
        names.append(put(block))
        blocks.append([offset, len(block), names[-1]])
    return {**like, "mtime": mtime_ns, "size": len(content), "extents": blocks}, tuple(names)


def _pread(fd: int, length: int, offset: int) -> bytes:
    os.lseek(fd, offset, os.SEEK_SET)
    parts: list[bytes] = []
    while length > 0 and (part := os.read(fd, length)):
        parts.append(part)
        length -= len(part)
    return b"".join(parts)


def xattrs_of(image: Image) -> Xattrs:
    """The extended attributes in an image."""
    pairs: Any = image.get("xattrs", [])
    return tuple((str(key), base64.b64decode(value)) for key, value in pairs)


def blocks_of(image: Image) -> list[tuple[int, int, str]]:
    """Offset, length and object name of each extent."""
    blocks: Any = image.get("extents", [])
    return [(int(offset), int(length), str(name)) for offset, length, name in blocks]


def number(image: Image, key: str) -> int:
    """A number in an image."""
    value: Any = image[key]
    return int(value)


def content_of(image: Image, get: Get) -> bytes:
    """The whole content, holes as zeros."""
    content = bytearray(number(image, "size"))
    for offset, length, name in blocks_of(image):
        content[offset : offset + length] = get(name)
    return bytes(content)


def write_new(calls: Calls, slot: Slot, image: Image, get: Get) -> None:
    """Make what the image shows under a free name of the trash; durable."""
    if image["kind"] == "symlink":
        calls.symlink(content_of(image, get), slot.folder, slot.name)
        _dress(calls, slot, image)
        return
    if image["kind"] == "directory":
        calls.mkdir(slot.folder, slot.name, 0o700)
        _dress(calls, slot, image)
        return
    fd = calls.open_file(slot.folder, slot.name, OPEN_NEW)
    try:
        calls.truncate(fd, number(image, "size"))
        for offset, _, name in blocks_of(image):
            calls.pwrite(fd, get(name), offset)
        _dress(calls, slot, image)
        calls.sync(fd)
    finally:
        os.close(fd)


def _dress(calls: Calls, slot: Slot, image: Image) -> None:
    """Owner, then mode, then attributes (each step clears what the next one sets), times last."""
    folder, name = slot.folder, slot.name
    there = calls.lstat(folder, name)
    if there is None:
        return
    if (there.st_uid, there.st_gid) != (number(image, "uid"), number(image, "gid")):
        calls.chown(folder, name, number(image, "uid"), number(image, "gid"))
    if image["kind"] != "symlink":
        calls.chmod(folder, name, number(image, "mode"))
    put_xattrs(calls, slot, xattrs_of(image))
    mtime = number(image, "mtime")
    calls.utime(folder, name, mtime, mtime)


def put_xattrs(calls: Calls, slot: Slot, wanted: Xattrs) -> None:
    """Make a staged object's extended attributes these and no others."""
    present = dict(calls.xattrs(slot.folder, slot.name))
    for key in present.keys() - dict(wanted).keys():
        calls.remove_xattr(slot.folder, slot.name, key)
    for key, value in wanted:
        if present.get(key) != value:
            calls.set_xattr(slot.folder, slot.name, key, value)
