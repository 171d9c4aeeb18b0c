"""Every known way to bring a header, a recipient, a part or a message of one's own into a mail: refused, or the bytes clean.

One list over every field of `send_email` and `draft_email`, new or as a reply; then hostile messages, answered and read.
"""

from __future__ import annotations

import dataclasses
import os
import unicodedata
from collections.abc import AsyncIterator, Sequence
from email import message_from_bytes
from email.header import decode_header, make_header
from email.policy import SMTP, compat32
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pydantic import ValidationError
from tests.tools.email import maildirs

from takeback.tools.conformance import kit_services
from takeback.tools.conformance.world import KitObjects, call_context
from takeback.tools.contract import ReversibleTool, ToolError
from takeback.tools.email.family import EmailFamily
from takeback.tools.email.reading import content_of
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.registry import Services
from takeback.tools.system import TargetError

_BCC = "Bcc: eve@example.net"
_BREAKS = {
    "crlf": "\r\n", "lf": "\n", "cr": "\r", "lf cr": "\n\r", "vertical tab": "\v", "form feed": "\f", "nul": "\0",
    "nel": "\x85", "line separator": "\u2028", "paragraph separator": "\u2029", "file separator": "\x1c",
    "record separator": "\x1e",
    "folded": "\r\n ", "folded tab": "\r\n\t", "two": "\r\n\r\n", "nul crlf": "\0\r\n", "high lf": "\u010a",
    "high cr lf": "\u010d\u010a",
    "percent": "%0d%0a", "percent lf": "%0a", "percent twice": "%250d%250a",
    "percent utf-8": "%E5%98%8D%E5%98%8A", "overlong": "%c0%8a",
    "backslash": "\\r\\n", "backslash x": "\\x0d\\x0a", "backslash u": "\\u000d\\u000a",
    "symbols": "\u240d\u240a", "entity": "&#13;&#10;",
    "plus": "+AA0ACg-", "equals": "=0D=0A",
}  # fmt: skip
TEXTS = {
    **{f"break, {name}": f"Hi{sign}{_BCC}" for name, sign in _BREAKS.items()},
    "encoded word q": "=?utf-8?q?Hi=0D=0ABcc:_eve@example.net?=",
    "encoded word b": "=?utf-8?b?SGkNCkJjYzogZXZlQGV4YW1wbGUubmV0?=",
    "encoded word, folded": "=?utf-8?q?Hi?=\r\n =?utf-8?q?=0D=0ABcc:_eve@example.net?=",
    "encoded word, language": "=?utf-8*en?q?Hi=0ABcc:_eve@example.net?=",
    "encoded word, utf-7": "=?utf-7?q?Hi+AA0ACg-Bcc:_eve@example.net?=",
    "encoded word, unknown charset": "=?x-none?q?Hi=0D=0A?=",
    "encoded word, empty": "=?utf-8?q??=",
    "encoded word, harmless": "=?iso-8859-1?Q?Andr=E9?=",
    "encoded word, split": "=?utf-8?q?=3D?= ?utf-8?q?=0D=0A?=",
    "encoded word, percent": "%3D%3Futf-8%3Fq%3FHi%3D0D%3D0A%3F%3D",
    "encoded word in a quote": '"=?utf-8?q?=22=2C?=" eve@example.net',
    "rfc 2231": "name*=utf-8''Hi%0D%0ABcc:%20eve@example.net",
    "rfc 2231, continued": "name*0*=utf-8''Hi%0D; name*1*=%0ABcc:",
    "a parameter": 'a.txt"; name="b.exe',
    "a header": _BCC,
    "a header name": "Bcc",
    "bidi override": "invoice\u202egnp.exe",
    "bidi isolate": "a\u2066b\u2069c",
    "arabic mark": "a\u061cb",
    "zero width space": "pay\u200bpal",
    "word joiner": "pay\u2060pal",
    "soft hyphen": "pay\u00adpal",
    "byte order mark": "\ufeffHi",
    "annotation": "a\ufff9b\ufffac\ufffb",
    "tag": "a\U000e0041b",
    "mongolian vowel separator": "a\u180eb",
    "escape": "\x1b[31mHi\x1b]0;x\x07",
    "c1": "a\x9bb",
    "backspace": "evil\b\b\b\bgood",
    "delete": "a\x7fb",
    "lone surrogate": "a\udc0ab",
    "another address": "eve@example.net",
    "two addresses": "a@example.org, eve@example.net",
    "semicolon": "a@example.org; eve@example.net",
    "a group": "undisclosed: eve@example.net, a@example.org;",
    "an empty group": "undisclosed-recipients:;",
    "angle brackets": "<eve@example.net>",
    "name and address": "Boss <eve@example.net>, Anna",
    "a route": "<@example.net,@example.org:a@example.org>",
    "a comment": "(eve@example.net)",
    "a nested comment": "a(b(eve@example.net)c)",
    "an open comment": "a(b",
    "a quote": '"',
    "a quoted quote": '\\"',
    "an open quote": 'Anna" <eve@example.net> "',
    "a quoted local part": '"eve@example.net "@example.org',
    "a quoted local part with a break": '"a\r\nb"@example.org',
    "a quoted pair": "\\\n",
    "fullwidth at": "eve\uff20example\u2025net",
    "fullwidth brackets": "\uff1ceve\uff20example.net\uff1e",
    "small commercial at": "eve\ufe6bexample.net",
    "homograph": "\u0430nna@ex\u0430mple.org",
    "dotless": "adm\u0131n",
    "ligature": "o\ufb03ce",
    "ideographic stop": "a\u3002b",
    "percent hack": "eve%example.net",
    "bang path": "example.net!eve",
    "source route": "@relay.example.net:eve",
    "literal": "eve@[127.0.0.1]",
    "literal v6": "eve@[IPv6:::1]",
    "smtp command": "a@example.org>\r\nRCPT TO:<eve@example.net",
    "smtp parameter": "a@example.org> ORCPT=rfc822;eve@example.net",
    "dot alone": ".",
    "dot lines": "Hi\r\n.\r\nMAIL FROM:<eve@example.net>\r\nRCPT TO:<a@example.org>\r\nDATA\r\nSubject: two\r\n\r\nx",
    "smuggled lf": "Hi\n.\nMAIL FROM:<eve@example.net>\n",
    "smuggled lf crlf": "Hi\n.\r\nMAIL FROM:<eve@example.net>\r\n",
    "smuggled crlf lf": "Hi\r\n.\nMAIL FROM:<eve@example.net>\n",
    "smuggled cr": "Hi\r.\rMAIL FROM:<eve@example.net>\r",
    "smuggled cr crlf": "Hi\r.\r\nMAIL FROM:<eve@example.net>\r\n",
    "smuggled nul": "Hi\r\n\0.\r\nMAIL FROM:<eve@example.net>\r\n",
    "from line": "\nFrom eve@example.net Sat Jan  3 01:05:34 1996\nSubject: x\n\nx",
    "boundary": "\r\n--===============1234567890123456789==\r\nContent-Type: text/html\r\n\r\n<b>x</b>",
    "closing boundary": "--===============1234567890123456789==--\r\n\r\nafter",
    "content type": "\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/html\r\n\r\n<b>",
    "mime header": "Content-Transfer-Encoding: base64",
    "uuencode": "begin 644 x.exe\n#0V%T\n`\nend",
    "path": "../../etc/passwd",
    "path, windows": "..\\..\\boot.ini",
    "drive": "C:\\Temp\\x.exe",
    "device": "NUL.txt",
    "stream": "a.txt::$DATA",
    "trailing dots": "a.exe . . .",
    "right spaces": "a.txt" + " " * 150 + ".exe",
    "option": "-oQ/tmp -X/tmp/x.php",
    "shell": "$(id) `id` | id; id",
    "html": "<img src=https://example.net/x.png onerror=alert(1)>",
    "template": "{{7*7}}${7*7}",
    "long": "x" * 3000,
    "long line": "x" * 998 + "\r\n" + _BCC,
    "long word, other letters": "\u00fc" * 390,
    "combining": "a" + "\u0301" * 300,
    "empty": "",
    "spaces": "   ",
}
FIELDS = ("subject", "name", "quoted name", "local part", "domain", "cc", "bcc", "body", "file name", "in_reply_to")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def services(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Services]:
    folder = tmp_path_factory.mktemp("injections")
    box = maildirs.make(folder / "box")
    maildirs.put(box, "1.host", maildirs.letter(1))
    for made in ("data", "site"):
        (folder / made).mkdir()
    its = {"work": MailboxSettings(path=box, address="Me <me@example.org>")}
    yield dataclasses.replace(kit_services(folder), roots=(folder / "site",), mailboxes=its)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def tools(services: Services) -> AsyncIterator[dict[str, ReversibleTool[Any]]]:
    family = await EmailFamily.open(services)
    services.outbox.carriers = {carrier.name: carrier for carrier in family.carriers}  # type: ignore[attr-defined]  # the real one
    yield {tool.name: tool for tool in family.tools if isinstance(tool, ReversibleTool)}
    await family.close()


async def written(tool: ReversibleTool[Any], **arguments: Any) -> bytes | None:
    """The final bytes; `None` if the call was refused with advice."""
    objects = KitObjects()
    try:
        given = tool.arguments.model_validate(arguments)
        prepared = await tool.prepare(given, call_context(objects))
    except ValidationError:
        return None
    except (ToolError, TargetError) as error:
        assert str(error)
        assert error.advice
        assert not any(unicodedata.category(sign) in ("Cc", "Cs") for sign in str(error))
        return None
    objects.keep(prepared.blobs)
    [data] = objects.kept.values()
    await prepared.discard()
    return data


def check_clean(data: bytes, names: Sequence[str], recipients: int, *, files: int = 0) -> Any:
    """The message has exactly these headers, so many recipients and parts, and nothing in it could be taken for more."""
    assert data.isascii()
    assert b"\0" not in data
    assert b"\r" not in data.replace(b"\r\n", b"")
    assert b"\n" not in data.replace(b"\r\n", b"")
    assert max(map(len, data.split(b"\r\n"))) <= 998
    head = data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ").split(b"\r\n")
    found = [line.partition(b":")[0].decode() for line in head]
    mime = ["Content-Type", "Content-Transfer-Encoding", "MIME-Version"]
    assert [name for name in found if name not in mime] == list(names)
    for policy in (SMTP, compat32):
        parsed = message_from_bytes(data, policy=policy)
        assert [name for name in parsed.keys() if name not in mime] == list(names)  # noqa: SIM118 -- one for each header
        for name, value in parsed.items():
            for text in (" ".join(str(value).split()), str(make_header(decode_header(" ".join(str(value).split()))))):
                assert not any(unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp") for sign in text), (name, text)
    parsed = message_from_bytes(data, policy=SMTP)
    assert sum(len(parsed[name].addresses) for name in ("To", "Cc", "Bcc") if parsed[name]) == recipients
    assert not any(group.display_name for name in ("To", "Cc", "Bcc") if parsed[name] for group in parsed[name].groups)
    leaves = [part for part in parsed.walk() if not part.is_multipart()]
    assert len(leaves) == 1 + files
    assert leaves[0].get_content_type() == "text/plain"
    assert not any(part.defects for part in parsed.walk())
    return parsed


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(
    ("name", "answer"), [("send_email", False), ("draft_email", True)], ids=["send", "draft a reply"]
)
@pytest.mark.parametrize("field", FIELDS)
async def test_no_text_in_any_field_becomes_more_than_that_field(
    tools: dict[str, ReversibleTool[Any]], services: Services, field: str, name: str, answer: bool
):
    taken = 0
    for what, text in TEXTS.items():
        given: dict[str, Any] = {"to": ["Anna <a@example.org>"], "subject": "Hi", "body": "Hello\n"}
        given |= {"in_reply_to": "1.host"} if answer else {}
        recipients, headers = 1, ["From", "To", "Subject", "Date", "Message-ID"]
        headers += ["In-Reply-To", "References"] if answer else []
        match field:
            case "subject" | "body" | "in_reply_to":
                given[field] = text
            case "name":
                given["to"] = [f"{text} <a@example.org>"]
            case "quoted name":
                given["to"] = ['"' + text.replace("\\", "\\\\").replace('"', '\\"') + '" <a@example.org>']
            case "local part":
                given["to"] = [f"{text}@example.org"]
            case "domain":
                given["to"] = [f"a@{text}"]
            case "cc" | "bcc":
                given[field] = [f"{text} <b@example.org>"]
                shown = field == "cc" or name == "draft_email"
                recipients += shown
                headers[2:2] = [field.capitalize()] if shown else []
            case _:
                if not _made(services.roots[0], text):
                    continue
                given["attachments"] = [text]
        data = await written(tools[name], **given)
        if data is None:
            continue
        taken += 1
        parsed = check_clean(data, headers, recipients, files=field == "file name")
        assert b"eve@" not in _addresses(parsed), what
        body = parsed.get_body(("plain",)).get_content().replace("\r\n", "\n")
        if field == "body":
            assert body.rstrip("\n") == text.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n"), what
        if field == "subject":
            plain = parsed["Subject"].removeprefix("Re: ") if answer else parsed["Subject"]
            assert plain.split() == text.removeprefix("Re: ").split(), what
        if field == "file name":
            [file] = parsed.iter_attachments()
            assert file["Content-Disposition"].params["filename"] == text.replace("\\", "/").rpartition("/")[2], what
            assert file.get_content() == b"\r\n.\r\nbytes", what
    assert taken or field in ("local part", "domain", "in_reply_to")


def _made(folder: Path, text: str) -> bool:
    """A file of that name, as somebody may have put it into the workspace."""
    if "/" in text or text in (".", ""):
        return False
    try:
        (folder / text).write_bytes(b"\r\n.\r\nbytes")
    except (OSError, ValueError):
        return False
    return True


def _addresses(parsed: Any) -> bytes:
    found = [each.addr_spec for name in ("To", "Cc", "Bcc", "From") if parsed[name] for each in parsed[name].addresses]
    return " ".join(found).encode()


HOSTILE = {
    "plain": [b"Message-ID: <m1@example.net>", b"References: <r1@example.net> <r2@example.net>"],
    "references": [b"Message-ID: <m1@example.net>", b"References: <a@b>%0d%0aBcc: eve@example.net <r2@example.net>"],
    "folded": [b"Message-ID:\r\n <m1@example.net>", b"References: <r1@example.net>\r\n\tBcc: eve@example.net"],
    "encoded id": [b"Message-ID: =?utf-8?q?=3Cm1=40example=2Enet=3E=0D=0ABcc:_eve=40example.net?="],
    "encoded references": [
        b"Message-ID: <m1@example.net>",
        b"References: =?utf-8?b?DQpCY2M6IGV2ZUBleGFtcGxlLm5ldA==?=",
    ],
    "id with a comment": [b"Message-ID: (x) <m1@example.net> (eve@example.net)"],
    "quoted id": [b'Message-ID: <"a\\"b"@example.net>'],
    "nul": [b"Message-ID: <m\x001@example.net>"],
    "bytes": [b"Message-ID: <m\xff\x851@example.net>"],
    "separator": ["Message-ID: <m1@example.net>\u2028Bcc: eve@example.net".encode()],
    "long": [b"Message-ID: <" + b"m" * 5000 + b"@example.net>"],
    "many": [
        b"Message-ID: <m1@example.net>",
        b"References: " + b"\r\n ".join(b"<r%d@example.net>" % n for n in range(900)),
    ],
    "two": [b"Message-ID: <m1@example.net>", b"Message-ID: <m2@example.net>\r\nReferences: x"],
    "none": [b"X-Other: 1"],
}


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", HOSTILE)
async def test_an_answer_to_a_hostile_message_takes_nothing_over_but_ids(
    tools: dict[str, ReversibleTool[Any]], services: Services, case: str
):
    path = services.mailboxes["work"].path
    assert path is not None
    lines = [b"From: eve@example.net", b"Subject: =?utf-8?q?x=0D=0ABcc:_eve=40example.net?=", *HOSTILE[case]]
    maildirs.put(path, f"{case.replace(' ', '_')}.host", b"\r\n".join([*lines, b"", b"x\r\n"]))
    for tool in ("send_email", "draft_email"):
        given = {"to": ["a@example.org"], "subject": "Hi", "body": "x", "in_reply_to": f"{case.replace(' ', '_')}.host"}
        data = await written(tools[tool], **given)
        if case in ("plain", "many"):
            assert data is not None
        if data is None:
            continue
        names = ["From", "To", "Subject", "Date", "Message-ID", "In-Reply-To", "References"]
        parsed = check_clean(data, names, 1)
        assert b"eve@" not in data
        assert parsed["In-Reply-To"].strip() in ("<m1@example.net>", "<m2@example.net>")


@pytest.mark.parametrize(
    "disposition",
    [
        b'attachment; filename="../../etc/passwd"',
        b'attachment; filename="..\\\\..\\\\boot.ini"',
        b"attachment; filename*=utf-8''..%2F..%2Fetc%2Fpasswd%0D%0ABcc%3A%20x",
        b"attachment; filename*0*=utf-8''a%0D; filename*1*=%0Ab.txt",
        b"attachment; filename*=x-none''a%00b",
        b"attachment; filename*=utf-16''%ff%fe%00",
        b'attachment; filename="=?utf-8?q?a=0D=0AX:_y?="',
        "attachment; filename=\"invoice\u202egnp.exe\"".encode(),
        b'attachment; filename="a\x00b\x1b[31m\x85c"',
        b'attachment; filename="' + b"x" * 5000 + b'"',
        b"attachment; filename*99999999999=x; filename*a=y",
        b"attachment; filename",
        b'attachment; filename="."',
        b'attachment; filename=" .. / . "',
    ],
)  # fmt: skip
def test_the_name_of_an_attachment_that_is_read_is_a_name_and_nothing_else(disposition: bytes):
    data = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: application/x\r\nContent-Disposition: "
        + disposition
        + b"\r\n\r\nx\r\n--b--\r\n"
    )
    [part] = content_of(data).attachments
    assert part.name
    assert len(part.name) <= 255
    assert os.path.basename(part.name) == part.name
    assert part.name not in (".", "..")
    assert "\\" not in part.name
    assert not any(unicodedata.category(sign) in ("Cc", "Cf", "Cs", "Zl", "Zp") for sign in part.name)
