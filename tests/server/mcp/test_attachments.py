"""Attachments are listed by `read_email` and handed out as resources: bytes and type as in the message, and nothing else."""

from __future__ import annotations

import base64
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from mcp_types import BlobResourceContents
from tests.server.mcp.eras import Connect, data

from takeback.server.settings import Settings
from takeback.tools.email import read_tools

PDF = b"%PDF-1.7\n\0\xff\x00bytes"
HTML = b"<script src=https://tracker.example.org/x.js></script>"
ID = "1700000000.M1P2.host"


def message() -> bytes:
    made = EmailMessage()
    made["From"], made["Subject"] = "eve@example.org", "Files"
    made.set_content("See below.")
    made.add_attachment(PDF, maintype="application", subtype="pdf", filename="../../etc/Übersicht\u202efdp.pdf")
    made.add_attachment(HTML, maintype="text", subtype="html", filename="C:\\Temp\\page.html")
    made.add_attachment(b"x" * 3000, maintype="image", subtype="png", filename="large.png")
    return made.as_bytes().replace(b"image/png", b"image/p\tng;x")


@pytest.fixture
def box(settings: Settings) -> Path:
    folder = settings.data / "mail" / "default"
    for name in ("cur", "new", "tmp"):
        (folder / name).mkdir(parents=True)
    file = folder / "new" / ID
    file.write_bytes(message())
    return file


async def listed(client: Any) -> list[dict[str, Any]]:
    read = await client.call_tool("read_email", {"mailbox": "default", "message_id": ID})
    found: list[dict[str, Any]] = data(read)["attachments"]
    return found


async def test_an_attachment_is_handed_out_byte_by_byte_with_its_type_and_the_message_stays_unread(
    connect: Connect, box: Path
):
    async with connect() as client:
        first, second, third = await listed(client)
        assert [one["name"] for one in (first, second)] == ["Übersicht\ufffdfdp.pdf", "page.html"]
        for one, kind, content in ((first, "application/pdf", PDF), (second, "text/html", HTML)):
            [got] = (await client.read_resource(one["uri"])).contents
            assert isinstance(got, BlobResourceContents)
            assert (got.mime_type, base64.b64decode(got.blob), one["size"]) == (kind, content, len(content))
        [odd] = (await client.read_resource(third["uri"])).contents
        assert odd.mime_type in ("image/p", "application/octet-stream")
    assert box.exists()  # in `new`, where it was


async def test_what_is_too_large_has_no_address_and_is_not_handed_out(
    connect: Connect, box: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(read_tools, "ATTACHMENT_BYTES", 1000)
    async with connect() as client:
        first, _, large = await listed(client)
        assert large["uri"] is None
        with pytest.raises(Exception, match="more than the 1,000 that are handed out"):
            await client.read_resource(first["uri"].replace("/0", "/2"))


@pytest.mark.parametrize(
    "uri",
    [
        f"takeback://mail/other/{ID}/attachments/0",
        f"takeback://mail/default/{ID}/attachments/3",
        f"takeback://mail/default/{ID}/attachments/-1",
        f"takeback://mail/default/{ID}/attachments/²",
        f"takeback://mail/default/{ID}/attachments/00000",
        "takeback://mail/default/..%2F..%2Fjournal.db/attachments/0",
        "takeback://mail/default/new%2F1700000000.M1P2.host/attachments/0",
        "takeback://mail/default/%00/attachments/0",
        "takeback://mail/..%2Fdefault/1700000000.M1P2.host/attachments/0",
    ],
)
async def test_what_there_is_not_is_not_found(connect: Connect, box: Path, uri: str):
    async with connect() as client:
        with pytest.raises(Exception, match=r"There is no|no such attachment|Unknown resource"):
            await client.read_resource(uri)
