"""Addresses and texts of headers, taken strictly: what could become a line of its own in a message is refused. Pure.

Control characters are looked for in the text as it is, and again after everything that some program on the way might decode:
percent signs, encoded words (RFC 2047), compatibility forms of Unicode. Encoded words themselves are refused, because
the message is encoded here: with CPython 3.11.7 the subject `=?utf-8?q?a=0D=0ABcc:_b@example.org?=` becomes a `Bcc` header.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

LONGEST_NAME: Final = 128
LONGEST_ADDRESS: Final = 254
"""RFC 5321, section 4.5.3.1.3: a path of 256 with its brackets."""
LONGEST_LOCAL: Final = 64

_ATOM = re.compile(r"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*\Z")
"""Without `%` and `!`: many servers still take them for a route, and bring the mail to somebody else than is shown."""
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_ENCODED_WORD = re.compile(r"=\?[^\s?]*\?[bq]\?|=\?[^?]*\?[^?]*\?[^?]*\?=", re.IGNORECASE)
_SPECIALS = frozenset('()<>[]:;@\\,"')
_UNSEEN: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Categories of characters that show nothing, and turn or split what is shown."""
_JOINERS: Final = "\u200c\u200d"
"""Invisible, and needed: Persian, Indic scripts and emoji are not written without them."""


class BadText(ValueError):
    """A text cannot stand in a header: one sentence of fact, one of advice."""

    def __init__(self, fact: str, advice: str) -> None:
        super().__init__(fact)
        self.advice = advice


@dataclass(frozen=True, slots=True)
class Address:
    """One address. The domain is in its ASCII form."""

    name: str
    local: str
    domain: str

    @property
    def spec(self) -> str:
        """`anna@example.org`."""
        return f"{self.local}@{self.domain}"

    def __str__(self) -> str:
        return f"{self.name} <{self.spec}>" if self.name else self.spec


def check_text(text: str, what: str, *, longest: int) -> str:
    """The text, if it can stand in a header.

    :param what: what it is, for the refusal.
    :raises BadText: it is too long, or holds what could begin another header.
    """
    if len(text) > longest:
        raise BadText(f"{what} has {len(text):,} characters, more than {longest:,}.", "Make it shorter.")
    if _ENCODED_WORD.search(text) or _ENCODED_WORD.search(unquote(text)):
        raise BadText(f"{what} holds an encoded word (=?…?=).", "Write the text itself; it is encoded when it is sent.")
    for form in _forms(text):
        if any(unicodedata.category(char) in _UNSEEN and char not in _JOINERS for char in form):
            raise BadText(
                f"{what} holds a control character, a line break or an invisible sign, as it is or once it is decoded.",
                "Write plain text on one line.",
            )
    return text


def _forms(text: str) -> list[str]:
    """The text, and what it may become on its way."""
    forms = [text, unicodedata.normalize("NFKC", text)]
    for _ in range(3):  # encoded more than once
        forms.append(unquote(forms[-1], errors="replace"))
    escaped = re.sub(r"\\x([0-9a-fA-F]{2})|\\u([0-9a-fA-F]{4})", lambda m: chr(int(m[1] or m[2], 16)), text)
    return [*forms, escaped.replace("\\r", "\r").replace("\\n", "\n") if _ESCAPE.search(text) else escaped]


_ESCAPE = re.compile(r"\\r\\n|\\n[A-Za-z-]+:|\\r[A-Za-z-]+:")
"""Line breaks written as in a program, where a header would follow."""


def parse(text: str, what: str = "The address") -> Address:
    """One address: `anna@example.org`, `Anna Berg <anna@example.org>`, `"Berg, Anna" <anna@example.org>` (RFC 5322, 3.4),
    without comments, groups, routes and quoted local parts.

    :raises BadText: it is no such address, or several.
    """
    text = check_text(text, what, longest=LONGEST_NAME + LONGEST_ADDRESS + 8).strip()
    name, spec = "", text
    if text.endswith(">"):
        before, bracket, spec = text[:-1].rpartition("<")
        if not bracket:
            raise _malformed(what)
        name = _name(before.strip(), what)
    local, at, domain = spec.rpartition("@")
    if not at or not local or len(local) > LONGEST_LOCAL or _ATOM.match(local) is None:
        raise _malformed(what)
    address = Address(name, local, _domain(domain, what))
    if len(address.spec) > LONGEST_ADDRESS:
        raise BadText(f"{what} is longer than {LONGEST_ADDRESS} characters.", "Check it.")
    return address


def _malformed(what: str) -> BadText:
    return BadText(
        f"{what} is not one address.", "Write one per entry, as anna@example.org or Anna Berg <anna@example.org>."
    )


def _name(text: str, what: str) -> str:
    if text.startswith('"'):
        if len(text) < 2 or re.fullmatch(r'"(?:[^"\\]|\\.)*"', text) is None:
            raise _malformed(what)
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    elif _SPECIALS & set(text):
        raise BadText(f"{what} has a name with signs that need quotes.", 'Write it as "Berg, Anna" <anna@example.org>.')
    if set(unicodedata.normalize("NFKC", text)) & set("@<>"):
        raise BadText(
            f"{what} has a name that looks like an address.", "Write only the person's name before the address."
        )
    return check_text(text.strip(), f"{what}'s name", longest=LONGEST_NAME)


def _domain(text: str, what: str) -> str:
    import idna  # tables that most calls do not need

    domain = text.lower()
    if not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True, std3_rules=True).decode("ascii")
        except idna.IDNAError as error:
            raise BadText(f"{what} has a domain that is none ({text!r}).", "Check its spelling.") from error
    labels = domain.split(".")
    if domain != "localhost" and (
        len(labels) < 2 or len(domain) > 253 or not all(map(_LABEL.match, labels)) or labels[-1].isdigit()
    ):
        raise BadText(f"{what} has a domain that is none ({text!r}).", "Write it in full, as in anna@example.org.")
    for label in labels:
        if label.startswith("xn--"):
            try:
                idna.decode(label)
            except idna.IDNAError as error:
                raise BadText(f"{what} has a domain that is none ({text!r}).", "Check its spelling.") from error
    return domain
