"""What an act left, kept so that somebody's later edit of it can be told from ours: the base of a merge.

Only for text. Up to 32 KiB as it is (the next act's before-image is then the same object); larger as a difference to what was
there before, if that is small.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectStore
from takeback.tools.files.fingerprint import HASHED, Measured, content_digest

_WINDOW_LOG = 24


def is_text(data: bytes) -> bool:
    """Whether lines mean something in it."""
    return b"\0" not in data[:8192]


def basis_of(
    after: Measured, before: Measured, objects: ObjectStore
) -> tuple[JsonValue, str, Mapping[str, bytes]] | None:
    """How to find the content again, the object's name, and its bytes; `None` if it is not worth it."""
    data = after.data
    if data is None or after.state.kind != "file" or len(data) > HASHED or not is_text(data):
        return None
    if len(data) <= SMALL:
        name, blobs = objects.small(data)
        return {"object": name}, name, blobs
    if before.data is None or before.state.kind != "file" or before.state.content is None:
        return None
    difference = _difference(data, before.data)
    if len(difference) > SMALL:
        return None
    name, blobs = objects.small(difference)
    return {"object": name, "against": before.state.content}, name, blobs


def _difference(data: bytes, against: bytes) -> bytes:
    import zstandard  # costs an import, and few files need it

    kind: Any = zstandard.ZstdCompressionParameters
    parameters = kind.from_level(3, window_log=_WINDOW_LOG, enable_ldm=True)
    words = zstandard.ZstdCompressionDict(against, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(compression_params=parameters, dict_data=words).compress(data)


def rebuilt(stored: bytes, against: bytes | None, wanted: str | None) -> bytes | None:
    """The content again, if what was found is what it was made of.

    :param wanted: the content digest that it must have.
    """
    data = stored
    if against is not None:
        import zstandard

        words: Any = zstandard.ZstdCompressionDict(against, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        try:
            data = zstandard.ZstdDecompressor(dict_data=words, max_window_size=1 << (_WINDOW_LOG + 1)).decompress(
                stored, max_output_size=HASHED
            )
        except zstandard.ZstdError:
            return None
    return data if wanted is None or content_digest(data) == wanted else None
