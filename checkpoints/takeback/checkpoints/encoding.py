"""How an object lies in the store: twelve bytes of header, then its bytes, compressed where that pays.

Header: `tb1`, one letter (`r` as it is, `z` zstd), and the length of what follows, so that a cut file is noticed without
reading it.
"""

from __future__ import annotations

import struct
from typing import Final

from takeback.checkpoints.objects import ObjectCorrupt

_HEADER: Final = struct.Struct(">3scQ")
HEADER_BYTES: Final = _HEADER.size
_MAGIC: Final = b"tb1"
_SAMPLE: Final = 64 * 1024
_WORTHWHILE: Final = 0.95
_LEAST: Final = 64
_WHOLE: Final = 64 * 1024 * 1024


def encode(data: bytes) -> bytes:
    """The stored form. Compressed (zstd, level 1) if the first 64 KiB shrink by a twentieth or more."""
    payload, kind = data, b"r"
    if len(data) >= _LEAST:
        import zstandard  # costs a start of the server several milliseconds that most starts do not need

        compressor = zstandard.ZstdCompressor(level=1)
        sample = data[:_SAMPLE]
        packed = compressor.compress(sample)
        if len(packed) < len(sample) * _WORTHWHILE:
            packed = packed if len(sample) == len(data) else compressor.compress(data)
            if len(packed) < len(data):
                payload, kind = packed, b"z"
    return _HEADER.pack(_MAGIC, kind, len(payload)) + payload


def plausible(header: bytes, stored_bytes: int) -> bool:
    """Whether a file of this length that begins so can be whole. Cheap; the content is not looked at."""
    if len(header) < HEADER_BYTES:
        return False
    magic, kind, length = _HEADER.unpack_from(header)
    return magic == _MAGIC and kind in (b"r", b"z") and length == stored_bytes - HEADER_BYTES


def decode(stored: bytes) -> bytes:
    """The object's bytes. Their digest is for the caller to check.

    :raises ObjectCorrupt: this is not what `encode` made.
    """
    if not plausible(stored[:HEADER_BYTES], len(stored)):
        raise ObjectCorrupt("a stored object is cut off, or its header is damaged")
    payload = memoryview(stored)[HEADER_BYTES:]
    if stored[3:4] == b"r":
        return bytes(payload)
    import zstandard

    try:
        unpack = zstandard.ZstdDecompressor()
        # a damaged header may promise any length: only a modest one is believed and allocated beforehand
        if 0 <= zstandard.frame_content_size(payload) <= _WHOLE:
            return unpack.decompress(payload)
        return unpack.decompressobj().decompress(payload)
    except zstandard.ZstdError as error:
        raise ObjectCorrupt("a stored object cannot be unpacked") from error
