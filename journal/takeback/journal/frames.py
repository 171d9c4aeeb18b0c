"""How payloads and views lie on the disk: nothing that an earlier event says is written again.

Intent and conclusion of an action name the same object, digests and references. So a payload is DEFLATEd with a preset
dictionary: the text below, and behind it the payloads of earlier events, which the frame names as its bases. A view that
follows from a few events alone is not written at all: its frame names them, and whoever reads it folds them. A frame is only
how bytes lie there. The chain runs over the payload itself, and what cannot be unpacked any more is found like anything else
that was changed.

A frame is: the version of the text (one byte; 0 if only events are named), the number of events named (one byte), their
positions (varints), DEFLATE. Bytes that begin with `{` are plain JSON.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Final

_PLAIN: Final = b"{"

_POINTS: Final = 0

_VERSION: Final = 1
"""Of the text that new frames are packed with. A better text gets the next number; the older ones stay, for older frames."""

_TEXTS: Final[dict[int, bytes]] = {
    1: (
        b'{"id":"cfl_","run_id":"run_","version":1,"status":"open","kind":"conflict","action_id":"act_","rollback_id":"rbk_",'
        b'"system":"database","object":"row","base":{"ours":{"theirs":{"why":"","next_step":"","opened_at":"2026-"}'
        b'"conflict_id":"cfl_","choice":"theirs","resolved_by":"local:","resolved_at":"2026-'
        b'"approval_id":"apr_","subject":"action","tool":"delete_file","caller":{"principal":"local:","client":"'
        b'"argument_digest":"blake3:","target_digest":"blake3:","question":"","reason":"","expires_at":"2026-'
        b'"by":"local:","lane":"elicitation","used_by":"act_","requested_at":"2026-"trigger":"failed_postcondition",'
        b'"answer":"warn","evidence":{"objects":["'
        b'"owner":{"principal":"local:","client":"claude-ai","client_version":"1.0"},"goal":"","started_at":"2026-",'
        b'"steps":["","default":true,"workspace":"","scope":["","parent_run_id":"run_","forked_from":"chk_",'
        b'"on_failure":"rollback","mode":"act","status":"finished","outcome":"done","summary":"","ended_at":"2026-",'
        b'"sealed_by":"rbk_","before_seal":"open"'
        b'"id":"rbk_","kind":"rollback","by":{"principal":"local:","plan_digest":"blake3:","redoes":"rbk_","steps":[],'
        b'"step":{"index":0,"action_id":"act_","run_id":"run_","phase":"concluded","position":1,"effects":[],'
        b'"outcome":"restored","why":"","attempt":1}"rollback_id":"rbk_","index":1,"phase":"intended","outcome":"restored",'
        b'"outcome":"already_undone","stands":false}"taken_back_by":"rbk_","undo_outcome":"restored"}'
        b'"id":"run_/write_file/","key":"","tool":"write_file","status":"in_flight"}"status":"taken"}"status":"free"}'
        b'"error_code":"","error":"","code":"","message":"","advice":"","intended":false}'
        b'"code":"not_found","code":"stale_read","kind":"directory","kind":"symlink","kind":"row","kind":"event",'
        b'"kind":"message","digest":"stat:","digest":"absent","kind":"absent"},"after":{"digest":"absent","kind":"absent"}}],'
        b'"reversibility":"compensable","reversibility":"irreversible","compensation":{"strategy":"compensate","how":"'
        b'"compensation":{"strategy":"none","how":"","memo":{"requested":{"parent_action_id":"act_","idempotency_key":"'
        b'{"id":"chk_","run_id":"run_","version":1,"position":1,"at":"2026-","action_id":"act_","label":"","step":"",'
        b'"output":{"path":"","size":4096,"created":false,"digest":"blake3:"}}"next_step":"","notes":{"pinned":true'
        b'{"id":"act_","run_id":"run_","version":1,"position":1,"tool":"write_file","status":"intended","at":"2026-'
        b'"concluded_at":"2026-","requested":{"path":"","content":"","expected_digest":"blake3:","argument_digest":"'
        b'"compensation":{"strategy":"restore","how":"","policy_rule":"default","locks":["files:'
        b'"checkpoint_id":"chk_","answer":{"path":"","size":1,"created":true,"digest":"blake3:"},"summary":"","stands":true}'
        b'{"run_id":"run_","at":"2026-11-20T12:00:00.000000Z","action_id":"act_","checkpoint_id":"chk_","effects":['
        b'{"system":"files","object":"/home/","before":{"digest":"blake3:","kind":"file","content":"blake3:","size":4096,'
        b'"objects":["blake3:"],"ref":{"image":{"kind":"file","mode":420,"uid":1000,"gid":1000,"mtime":17952025,"xattrs":[],'
        b'"size":4096,"extents":[[0,4096,"blake3:"]]},"at":"/home/","slot":"","trash":"","dir":{"was":17952025,"left":17952025}}},'
        b'"after":{"digest":"blake3:","kind":"file","content":"blake3:","size":4096,"objects":["blake3:"],'
        b'"ref":{"base":{"object":"blake3:"},"at":"/home/","slot":"","trash":"","dir":{"was":17952025,"left":17952025}}}}],'
        b'"answer":{"path":"","size":4096,"created":false,"digest":"blake3:"},"summary":"Wrote .txt (4,096 bytes).",'
        b""
        b'"summary":"Created .md (","summary":"Edited ","summary":"Moved ","summary":"Deleted ",'
        b'"warnings":["","digest":"blake3:'
        b'{"run_id":"run_","at":"2026-","action_id":"act_","tool":"write_file","tool_version":"1","caller":{"principal":"local:",'
        b'"client":"claude-code","client_version":"2.1.0"},"step":"","requested":{"path":".txt","content":"'
        b'\xe2\x80\xa6 (4096 characters)"},"argument_digest":"blake3:","effects":[{"system":"files","object":"/home/","before":'
        b'{"digest":"blake3:","kind":"file","content":"blake3:","size":4096,"objects":["blake3:"],"ref":{"slot":"","trash":"",'
        b'"at":"/home/","image":{"kind":"file","mode":420,"uid":0,"gid":0,"mtime":17952025,"xattrs":[],"size":4096,'
        b'"extents":[[0,4096,"blake3:"]]}}},"after":{"digest":"blake3:","kind":"file","content":"blake3:","size":4096,'
        b'"objects":["blake3:"],"ref":{"slot":"","trash":"","at":"/home/","base":{"object":"blake3:"}}}}],'
        b'"reversibility":"reversible","compensation":{"strategy":"restore","how":"Put the earlier content back.",'
        b'"allowed_until":"2026-12-20T12:00:00.000Z"},"policy_rule":"default.reversible","locks":["files:/home/"]}'
    ),
}
"""What events and views are made of. Never change one that is in use: no frame could be read any more."""

_LEVEL: Final = 3
_WINDOW_BITS: Final = 14
_MEMORY_LEVEL: Final = 6
"""Small tables: what is packed is small, and most of the time goes into making them."""


def pack(data: bytes, bases: Sequence[tuple[int, bytes]] = ()) -> bytes:
    """The frame of a JSON object, resting on the bases (position and payload of each)."""
    known = b"".join((_TEXTS[_VERSION], *(payload for _, payload in bases)))
    deflate = zlib.compressobj(_LEVEL, zlib.DEFLATED, -_WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, known)
    head = bytes((_VERSION, len(bases)))
    frame = b"".join((head, *(_varint(position) for position, _ in bases), deflate.compress(data), deflate.flush()))
    return data if len(frame) >= len(data) and data.startswith(_PLAIN) else frame


def point(positions: Sequence[int]) -> bytes:
    """The frame of a view that follows from the events at these positions alone."""
    return b"".join((bytes((_POINTS, len(positions))), *(_varint(position) for position in positions)))


def points(frame: bytes) -> tuple[int, ...] | None:
    """Positions of the events that a view follows from, in order; `None` if the frame holds the view itself.

    :raises ValueError: it is not a frame.
    """
    return _head(frame)[1] if frame[:1] == bytes((_POINTS,)) else None


def bases_of(frame: bytes) -> tuple[int, ...]:
    """Positions of the events on which a frame rests.

    :raises ValueError: it is not a frame.
    """
    return _head(frame)[1]


def unpack(frame: bytes, base: Callable[[int], bytes | None]) -> bytes:
    """What was packed.

    :param base: gives the payload at a position.
    :raises ValueError: it is not a frame, or one of its bases is not there.
    """
    if frame.startswith(_PLAIN):
        return frame
    version, bases, start = _head(frame)
    if version not in _TEXTS:
        raise ValueError("the frame names events and holds nothing")
    known = [_TEXTS[version]]
    for position in bases:
        payload = base(position)
        if payload is None:
            raise ValueError(f"the frame rests on the event at {position}, which is not there")
        known.append(payload)
    inflate = zlib.decompressobj(-zlib.MAX_WBITS, zdict=b"".join(known))
    try:
        data = inflate.decompress(frame[start:])
    except zlib.error as error:
        raise ValueError("the frame is damaged") from error
    if not inflate.eof or inflate.unused_data:
        raise ValueError("the frame is damaged")
    return data


def _head(frame: bytes) -> tuple[int, tuple[int, ...], int]:
    """Version, events named, and where the rest begins."""
    if frame.startswith(_PLAIN):
        return _POINTS, (), 0
    if len(frame) < 2 or (frame[0] != _POINTS and frame[0] not in _TEXTS):
        raise ValueError("the frame is of a kind that this takeback does not know")
    bases: list[int] = []
    at = 2
    for _ in range(frame[1]):
        position = shift = 0
        while True:
            if at >= len(frame):
                raise ValueError("the frame is damaged")
            byte = frame[at]
            at += 1
            position |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        bases.append(position)
    return frame[0], tuple(bases), at


def _varint(number: int) -> bytes:
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
