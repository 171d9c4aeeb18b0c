"""Keeping secrets out of the journal and the logs: what is called a secret, or looks like one, becomes a salted digest.

Two equal secrets give equal digests under one salt, so that a reader still sees that the same one was used twice; nobody
without the salt can try guesses. Only names and shapes are looked at, so ordinary content passes unchanged. This is a net, not
a proof: a secret that is called nothing and looks like nothing gets through.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, cast

from pydantic import JsonValue

_REDACTED = re.compile(r"redacted:hmac:[0-9a-f]{32}")

_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")

_SECRET_WORDS: Final = frozenset(
    [
        "password",
        "passwords",
        "passwd",
        "passphrase",
        "pwd",
        "secret",
        "secrets",
        "credential",
        "credentials",
        "authorization",
        "cookie",
        "apikey",
    ]
)
"""A name that has one of these words names a secret, whatever else it says."""

_SECRET_ENDS: Final = (
    ("token",),
    ("api", "key"),
    ("access", "key"),
    ("private", "key"),
    ("signing", "key"),
    ("encryption", "key"),
    ("auth",),
    ("otp",),
)
"""A name that ends like this names a secret; `token_count` does not."""

_HARMLESS_ENDS: Final = frozenset(
    ["hint", "policy", "name", "names", "id", "ids", "length", "count", "field", "label", "version", "expires"]
)
"""A name that ends like this tells about a secret, but is none."""


def is_redacted(text: str) -> bool:
    """Whether a secret was replaced in the text."""
    return _REDACTED.search(text) is not None


@dataclass(frozen=True, slots=True)
class _Shape:
    """Something that looks like a secret. Of a match, group 1 is replaced if there is one."""

    needles: tuple[str, ...]
    """The pattern is only tried where one of these occurs (in lower case): searching for text is far cheaper."""
    pattern: re.Pattern[str]


# repetitions are bounded, so that no text can make a search take quadratic time
_SHAPES: Final = (
    _Shape(
        ("private key",),
        re.compile(
            r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}-----|\Z)", re.DOTALL
        ),
    ),
    _Shape(("eyj",), re.compile(r"\beyJ[\w-]{8,512}\.eyJ[\w-]{8,8192}\.[\w-]{0,4096}")),
    _Shape(("akia", "asia", "aroa", "aida"), re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b")),
    _Shape(("sk-",), re.compile(r"\bsk-[\w-]{16,512}")),
    _Shape(("_live_", "_test_"), re.compile(r"\b[srp]k_(?:live|test)_\w{16,256}")),
    _Shape(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,255}")),
    _Shape(("github_pat_",), re.compile(r"\bgithub_pat_\w{20,255}")),
    _Shape(("glpat-",), re.compile(r"\bglpat-[\w-]{20,255}")),
    _Shape(("xox",), re.compile(r"\bxox[abeprs]-[\w-]{10,255}")),
    _Shape(("aiza",), re.compile(r"\bAIza[\w-]{35}")),
    _Shape(("hf_", "npm_"), re.compile(r"\b(?:hf|npm)_[A-Za-z0-9]{30,255}")),
    _Shape(("pypi-",), re.compile(r"\bpypi-[\w-]{40,512}")),
    _Shape(("bearer",), re.compile(r"\bbearer\s{1,8}((?=\S{0,256}\d)[\w.~+/=-]{16,8192})", re.IGNORECASE)),
    _Shape(
        ("authorization",),
        re.compile(r"\bauthorization[\"']?\s{0,8}[:=]\s{0,8}[\"']?(\S[^\r\n\"']{7,8192})", re.IGNORECASE),
    ),
    _Shape(
        ("://",),
        # a user name alone is none of our business, but before the host of a web address it usually is a token
        re.compile(
            r"\b(?:https?://([^\s/?#@\"'<>]{1,512})|[a-z][a-z0-9+.-]{0,20}://[^\s/?#@:\"'<>]{0,256}:([^\s/?#@\"'<>]{1,256}))@",
            re.IGNORECASE,
        ),
    ),
    _Shape(
        ("token=", "key=", "password=", "secret=", "signature=", "sig="),
        re.compile(
            r"[?&](?:\w{0,40}token|api_?key|key|password|client_secret|signature|sig)=([^&\s#\"'<>]{4,4096})",
            re.IGNORECASE,
        ),
    ),
    _Shape(
        ("password", "passwd", "secret", "token", "api"),
        # as environment files spell it
        re.compile(
            r"^[ \t]{0,16}(?:export[ \t]{1,4})?[A-Z0-9_]{0,64}"
            r"(?:PASSWORD|PASSWD|SECRET|TOKEN|API_?KEY)[A-Z0-9_]{0,32}=[\"']?([^\s\"']{4,4096})",
            re.MULTILINE,
        ),
    ),
    _Shape(
        ("password", "passwd", "secret"),
        # as settings files spell it, without quotes
        re.compile(
            r"^[ \t]{0,64}[\w.-]{0,64}(?:password|passwd|secret)[ \t]{0,8}[:=][ \t]{0,8}"
            r"([^\s\"'(){}\[\],;]{6,4096})[ \t]{0,8}\r?$",
            re.MULTILINE | re.IGNORECASE,
        ),
    ),
    _Shape(
        ("password", "passwd", "secret", "token", "api"),
        # a quoted literal behind a name, as JSON, TOML, YAML and most languages spell it
        re.compile(
            r"(?<![A-Za-z0-9])(?:\w{0,40}_)?(?:password|passwd|passphrase|secret|token|api_?key)[\"']?\s{0,8}[:=]\s{0,8}"
            r"(?:\"([^\"\n]{4,4096})\"|'([^'\n]{4,4096})')",
            re.IGNORECASE,
        ),
    ),
    _Shape(
        ("password", "identified by"),
        re.compile(r"\b(?:password|identified\s{1,8}by)\s{1,8}'((?:[^']|''){1,512})'", re.IGNORECASE),
    ),
)


_NEEDLES: Final = tuple((needle, at) for at, shape in enumerate(_SHAPES) for needle in shape.needles)
"""Every needle with the index of its shape: most texts have none, and are done after one pass."""


def redact(value: object, salt: bytes) -> JsonValue:
    """A JSON value without its secrets.

    :param salt: secret and stable where equal secrets should stay recognisable as equal; random where not.
    """
    if isinstance(value, str):
        return redact_text(value, salt)
    if isinstance(value, Mapping):
        fields = cast("Mapping[object, object]", value)
        return {redact_text(str(name), salt): _named(str(name), each, salt) for name, each in fields.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [redact(each, salt) for each in cast("Sequence[object]", value)]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact_text(str(value), salt)  # pyright: ignore[reportUnknownArgumentType]  # memoryview leaves its type open


def redact_text(text: str, salt: bytes) -> str:
    """A text in which everything that looks like a secret is replaced by its salted digest."""
    lowered = text.lower()
    tried: set[int] = set()
    for needle, at in _NEEDLES:
        if needle in lowered:
            tried.add(at)
    for at in sorted(tried):
        text = _SHAPES[at].pattern.sub(lambda found: _without(found, salt), text)
    return text


@lru_cache(maxsize=1024)
def is_secret_name(name: str) -> bool:
    """Whether a field of this name holds a secret, going by the name alone."""
    words = tuple(word.lower() for word in _WORDS.findall(name))
    if not words or words[-1] in _HARMLESS_ENDS:
        return False
    return not _SECRET_WORDS.isdisjoint(words) or any(words[-len(end) :] == end for end in _SECRET_ENDS)


def _named(name: str, value: object, salt: bytes) -> JsonValue:
    if value is None or value == "" or isinstance(value, bool) or not is_secret_name(name):
        return redact(value, salt)
    if isinstance(value, str):
        return value if _REDACTED.fullmatch(value) else _digest(value, salt)
    return _digest(json.dumps(value, sort_keys=True, default=str), salt)


def _without(found: re.Match[str], salt: bytes) -> str:
    group = found.lastindex or 0
    secret = found.group(group)
    if _REDACTED.fullmatch(secret):
        return found.group()
    start, end = found.start(group) - found.start(), found.end(group) - found.start()
    return found.group()[:start] + _digest(secret, salt) + found.group()[end:]


def _digest(secret: str, salt: bytes) -> str:
    return f"redacted:hmac:{hmac.digest(salt, secret.encode('utf-8', 'surrogatepass'), 'sha256').hex()[:32]}"
