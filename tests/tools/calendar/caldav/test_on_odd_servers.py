"""What a server does on a bad day is told as it is: nothing happened, it is not known, or refused; and nobody is given the
password who should not have it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.tools.calendar.caldav.odd_server import HANG, LOSE, OddServer, answer
from tests.tools.calendar.caldav.samples import event

from takeback.tools.calendar.caldav.http import Limits
from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.port import Changed, Resource
from takeback.tools.system import Refused, TargetError, Unavailable

OLD = Resource("a.ics", event("a"), '"1"')
NEW = event("a", "New")
LIMITS = Limits(connect=10, silence=0.2, whole=20, largest=20_000)


@pytest.fixture
async def store(odd: OddServer) -> AsyncIterator[CaldavStore]:
    opened = CaldavStore(odd.url, "anna", "secret-word", limits=LIMITS)
    yield opened
    await opened.close()


def only_not_known(error: TargetError) -> bool:
    return type(error) is TargetError and "not known" in str(error) and not error.retry


def multistatus(*hrefs: str, etag: str = '"1"') -> bytes:
    parts = "".join(
        f"<d:response><d:href>{href}</d:href><d:propstat><d:prop><d:getetag>{etag}</d:getetag></d:prop>"
        "<d:status>HTTP/1.1 200 OK</d:status></d:propstat></d:response>"
        for href in hrefs
    )
    return answer(207, f'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:">{parts}</d:multistatus>'.encode())


@pytest.mark.parametrize(
    "said", [LOSE, HANG, answer(500), answer(502), answer(503), answer(504), answer(202), b"HTTP/1.1 rubbish\r\n\r\n"]
)
async def test_a_write_without_a_clear_answer_is_not_known_and_not_repeated(
    odd: OddServer, store: CaldavStore, said: bytes
):
    odd.says("PUT", said)
    odd.says("DELETE", said)
    with pytest.raises(TargetError) as raised:
        await store.write("a.ics", NEW, OLD)
    assert only_not_known(raised.value)
    with pytest.raises(TargetError) as raised:
        await store.remove("a.ics", OLD)
    assert only_not_known(raised.value)
    assert odd.methods() == ["OPTIONS", "PUT", "DELETE"]


@pytest.mark.parametrize("said", [LOSE, HANG, answer(500), answer(503), answer(429)])
async def test_a_reading_without_an_answer_may_be_tried_again(odd: OddServer, store: CaldavStore, said: bytes):
    odd.says("GET", said, answer(200, OLD.data, ETag='"1"'))
    with pytest.raises(Unavailable):
        await store.read(["a.ics"])
    assert list(await store.read(["a.ics"])) == [OLD]


async def test_a_server_that_cannot_be_reached_is_unavailable_also_for_writes(odd: OddServer):
    probe = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = probe.sockets[0].getsockname()[1]
    probe.close()
    await probe.wait_closed()
    store = CaldavStore(f"http://127.0.0.1:{port}/cal/", "anna", "secret-word")
    store._knows = True
    with pytest.raises(Unavailable, match="cannot be reached"):
        await store.write("a.ics", NEW, OLD)
    await store.close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, Refused),
        (403, Refused),
        (405, Refused),
        (413, Refused),
        (423, Unavailable),
        (429, Unavailable),
        (507, Unavailable),
    ],
)
async def test_a_write_that_the_server_turned_away_changed_nothing(
    odd: OddServer, store: CaldavStore, status: int, kind: type[TargetError]
):
    odd.says("PUT", answer(status))
    with pytest.raises(kind) as raised:
        await store.write("a.ics", NEW, OLD)
    assert type(raised.value) is kind


async def test_the_reason_of_a_refusal_is_read_from_the_answer(odd: OddServer, store: CaldavStore):
    error = '<D:error xmlns:D="DAV:" xmlns:C="urn:ietf:params:xml:ns:caldav"><C:{}/></D:error>'
    odd.says("PUT", answer(403, error.format("max-resource-size").encode()))
    with pytest.raises(Refused, match="too large"):
        await store.write("a.ics", NEW, OLD)
    odd.says("PUT", answer(403, error.format("no-uid-conflict").encode()))
    with pytest.raises(Refused, match="UID"):
        await store.write("a.ics", NEW, OLD)


@pytest.mark.parametrize("etag", ['W/"1"', "", "1", '""'])
async def test_without_a_strong_etag_nothing_is_written(odd: OddServer, store: CaldavStore, etag: str):
    odd.says("GET", answer(200, OLD.data, ETag=etag) if etag else answer(200, OLD.data))
    found = (await store.read(["a.ics"]))[0]
    assert found == Resource("a.ics", OLD.data, etag)
    with pytest.raises(Refused, match="strong ETag"):
        await store.write("a.ics", NEW, found)
    with pytest.raises(Refused, match="strong ETag"):
        await store.remove("a.ics", found)
    assert set(odd.methods()) == {"OPTIONS", "GET"}


@pytest.mark.parametrize("headers", [{}, {"ETag": 'W/"2"'}])
async def test_a_write_without_an_etag_is_recognised_by_what_it_says(
    odd: OddServer, store: CaldavStore, headers: dict[str, str]
):
    odd.says("PUT", answer(204, **headers))
    normalised = NEW.replace(b"SUMMARY:New", b"SUM\r\n MARY:New").replace(b"20261101T080000Z", b"20261102T080000Z")
    odd.says("GET", answer(200, normalised, ETag='"2"'))
    assert await store.write("a.ics", NEW, OLD) == Resource("a.ics", normalised, '"2"')


@pytest.mark.parametrize("headers", [{}, {"ETag": '"2"'}, {"ETag": 'W/"3"'}])
async def test_somebody_elses_change_right_after_the_write_is_not_taken_for_ours(
    odd: OddServer, store: CaldavStore, headers: dict[str, str]
):
    odd.says("PUT", answer(204, **headers))
    odd.says("GET", answer(200, event("a", "New", "LOCATION:theirs"), ETag='"3"'))
    with pytest.raises(TargetError) as raised:
        await store.write("a.ics", NEW, OLD)
    assert only_not_known(raised.value)


@pytest.mark.parametrize("back", [answer(404), answer(500), LOSE])
async def test_a_write_that_cannot_be_read_back_is_not_called_failed(odd: OddServer, store: CaldavStore, back: bytes):
    odd.says("PUT", answer(201, ETag='"2"'))
    odd.says("GET", back)
    with pytest.raises(TargetError) as raised:
        await store.write("a.ics", NEW, None)
    assert type(raised.value) is TargetError


async def test_a_deletion_after_which_something_is_there_is_not_called_done(odd: OddServer, store: CaldavStore):
    odd.says("DELETE", answer(204))
    odd.says("GET", answer(200, OLD.data, ETag='"1"'))
    with pytest.raises(TargetError) as raised:
        await store.remove("a.ics", OLD)
    assert only_not_known(raised.value)


async def test_what_is_sent_is_always_conditional(odd: OddServer, store: CaldavStore):
    odd.says("PUT", answer(204, ETag='"2"'))
    odd.says("GET", answer(200, NEW, ETag='"2"'))
    await store.write("a.ics", NEW, OLD)
    await store.write("a.ics", NEW, None)
    odd.says("DELETE", answer(204))
    odd.says("GET", answer(404))
    await store.remove("a.ics", OLD)
    sent = [each.headers for each in odd.seen if each.method in ("PUT", "DELETE")]
    assert [(each.get("if-match"), each.get("if-none-match")) for each in sent] == [
        ('"1"', None),
        (None, "*"),
        ('"1"', None),
    ]


async def test_a_server_that_always_says_changed_is_not_asked_for_ever(odd: OddServer, store: CaldavStore):
    odd.says("PUT", answer(412))
    odd.says("GET", answer(200, OLD.data, ETag='"1"'))
    with pytest.raises(Unavailable):
        await store.write("a.ics", NEW, OLD)
    assert odd.methods().count("PUT") == 2
    odd.says("GET", answer(200, event("a", "Theirs"), ETag='"1"'))
    assert await store.write("a.ics", NEW, OLD) == Changed(Resource("a.ics", event("a", "Theirs"), '"1"'))


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_to_another_host_never_takes_the_password_there(
    odd: OddServer, store: CaldavStore, status: int
):
    other = OddServer()
    listening = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    for method in ("GET", "PUT", "DELETE", "PROPFIND"):
        odd.says(method, answer(status, Location=f"http://127.0.0.1:{port}/cal/a.ics"))
    for asked in (
        store.read(["a.ics"]),
        store.names(),
        store.write("a.ics", NEW, OLD),
        store.remove("a.ics", OLD),
    ):
        with pytest.raises(Refused, match="another"):
            await asked
    assert other.seen == []
    listening.close()
    await listening.wait_closed()


async def test_a_redirect_on_the_same_host_is_followed_for_reading_and_not_without_end(
    odd: OddServer, store: CaldavStore
):
    odd.says("GET", answer(301, Location="/new/a.ics"), answer(200, OLD.data, ETag='"1"'))
    assert list(await store.read(["a.ics"])) == [OLD]
    assert odd.seen[-1].path == "/new/a.ics"
    odd.says("GET", answer(301, Location="/new/a.ics"))
    with pytest.raises(Refused, match="without end"):
        await store.read(["a.ics"])
    odd.says("PUT", answer(308, Location="/new/a.ics"))
    with pytest.raises(Refused, match="nothing was changed"):
        await store.write("a.ics", NEW, OLD)


BOMB = b'<!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><d:multistatus xmlns:d="DAV:">&b;</d:multistatus>'
OUTSIDE = b'<!DOCTYPE m SYSTEM "file:///etc/passwd"><d:multistatus xmlns:d="DAV:"/>'


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        OUTSIDE,
        b"",
        b"<a>",
        b"<html/>",
        b"<a>" * 500 + b"</a>" * 500,
        b'<?xml version="1.0" encoding="nope"?><a/>',
    ],
)
async def test_xml_that_is_not_to_be_trusted_is_refused(odd: OddServer, store: CaldavStore, body: bytes):
    odd.says("PROPFIND", answer(207, body))
    with pytest.raises(Refused, match="cannot be read"):
        await store.names()


@pytest.mark.parametrize(
    "href",
    [
        "/other/a.ics",
        "/cal/../x.ics",
        "/cal/%2e%2e",
        "/cal/a%2Fb.ics",
        "/cal/x/y.ics",
        "http://elsewhere/cal/a.ics",
        "/cal/%ff",
        "/calendar2/a.ics",
        "//elsewhere/cal/a.ics",
        "/cal/a%0d%0ab",
    ],
)
async def test_an_address_outside_of_the_calendar_is_refused(odd: OddServer, store: CaldavStore, href: str):
    odd.says("PROPFIND", multistatus("/cal/", href))
    with pytest.raises(Refused, match="outside"):
        await store.names()


async def test_ten_thousand_events_are_listed_by_one_request(odd: OddServer):
    odd.says("PROPFIND", multistatus("/cal/", *(f"/cal/{number:05}.ics" for number in range(10_000))))
    store = CaldavStore(odd.url, "anna", "secret-word")
    assert len(await store.names()) == 10_000
    assert odd.methods() == ["OPTIONS", "PROPFIND"]
    await store.close()


async def test_an_answer_that_is_too_large_is_not_read(odd: OddServer, store: CaldavStore):
    odd.says("GET", answer(200, b"x" * 30_000, ETag='"1"'))
    with pytest.raises(Refused, match="larger"):
        await store.read(["a.ics"])


async def test_what_is_compressed_unasked_is_not_unpacked(odd: OddServer, store: CaldavStore):
    odd.says("GET", answer(200, b"x", ETag='"1"', Content_Encoding="gzip"))
    with pytest.raises(Unavailable):
        await store.read(["a.ics"])
    assert odd.seen[-1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("dav", "mails"), [("1, calendar-access", False), ("1, calendar-access, Calendar-Auto-Schedule", True)]
)
async def test_a_server_that_mails_by_itself_is_known_from_what_it_says(
    odd: OddServer, store: CaldavStore, dav: str, mails: bool
):
    odd.says("OPTIONS", answer(200, DAV=dav))
    await store.learn()
    assert store.mails_by_itself is mails


async def test_a_server_without_calendars_is_refused(odd: OddServer, store: CaldavStore):
    odd.says("OPTIONS", answer(200, DAV="1, 2"))
    with pytest.raises(Refused, match="no calendars"):
        await store.write("a.ics", NEW, None)
    assert odd.methods() == ["OPTIONS"]


async def test_a_listing_that_is_cut_off_is_not_taken_for_all(odd: OddServer, store: CaldavStore):
    odd.says(
        "PROPFIND",
        answer(
            207,
            b'<multistatus xmlns="DAV:"><response><href>/cal/</href><status>HTTP/1.1 507 Full</status></response>'
            b"</multistatus>",
        ),
    )
    with pytest.raises(Refused, match="part"):
        await store.names()


async def test_the_password_is_in_no_error(odd: OddServer, store: CaldavStore, caplog: pytest.LogCaptureFixture):
    caplog.set_level(0)
    for said in (LOSE, answer(401), answer(500)):
        odd.says("PUT", said)
        with pytest.raises(TargetError) as raised:
            await store.write("a.ics", NEW, OLD)
        assert "secret-word" not in f"{raised.value!r} {raised.value.__cause__!r} {raised.value.advice}"
    assert "secret-word" not in caplog.text and "YW5uYTpzZWNyZXQ" not in caplog.text  # nor in base64
