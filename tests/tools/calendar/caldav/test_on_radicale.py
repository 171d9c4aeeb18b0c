"""What is written, changed and deleted on a real server can be put back to the byte, and nobody else's change is lost."""

from __future__ import annotations

import pytest
from tests.tools.calendar.caldav.conftest import Radicale
from tests.tools.calendar.caldav.samples import event

from takeback.tools.calendar.caldav.store import CaldavStore
from takeback.tools.calendar.port import Changed, Resource
from takeback.tools.system import Refused


async def made(store: CaldavStore, name: str, data: bytes, expected: Resource | None = None) -> Resource:
    written = await store.write(name, data, expected)
    assert isinstance(written, Resource)
    return written


async def test_a_change_is_taken_back_to_the_same_bytes_and_etag(store: CaldavStore, radicale: Radicale):
    rich = ("RRULE:FREQ=WEEKLY", "X-COLOUR;X-A=b:red", "BEGIN:VALARM", "ACTION:DISPLAY", "TRIGGER:-PT5M", "END:VALARM")
    before = await made(store, "a.ics", event("a", "Stand-up, ä \\, " + "long " * 40, *rich))
    after = await made(store, "a.ics", event("a", "Something else"), before)
    assert after.etag != before.etag
    again = await made(store, "a.ics", before.data, after)
    assert again == before
    assert radicale.person("GET", "a.ics").content == before.data


async def test_what_is_answered_after_a_write_is_what_the_server_gives_out(store: CaldavStore, radicale: Radicale):
    written = await made(store, "a.ics", event("a"))
    theirs = radicale.person("GET", "a.ics")
    assert (written.data, written.etag) == (theirs.content, theirs.headers["etag"])


async def test_a_deleted_event_comes_back_under_its_uid_and_etag(store: CaldavStore):
    before = await made(store, "a.ics", event("a"))
    assert await store.remove("a.ics", before) is None
    assert list(await store.read(["a.ics"])) == [None]
    assert await store.find("a") is None
    assert await made(store, "a.ics", before.data) == before
    assert await store.find("a") == before


async def test_a_change_that_somebody_made_in_between_is_not_overwritten(store: CaldavStore, radicale: Radicale):
    before = await made(store, "a.ics", event("a"))
    radicale.person("PUT", "a.ics", data=event("a", "Theirs"))
    found = await store.write("a.ics", event("a", "Ours"), before)
    assert isinstance(found, Changed) and found.present is not None
    assert b"SUMMARY:Theirs" in found.present.data
    assert radicale.person("GET", "a.ics").content == found.present.data


async def test_what_somebody_changed_in_between_is_not_deleted(store: CaldavStore, radicale: Radicale):
    before = await made(store, "a.ics", event("a"))
    radicale.person("PUT", "a.ics", data=event("a", "Theirs"))
    found = await store.remove("a.ics", before)
    assert isinstance(found, Changed) and found.present is not None
    assert radicale.person("GET", "a.ics").content == found.present.data


async def test_what_somebody_deleted_in_between_is_neither_written_nor_deleted(store: CaldavStore, radicale: Radicale):
    before = await made(store, "a.ics", event("a"))
    radicale.person("DELETE", "a.ics")
    assert await store.write("a.ics", event("a", "Ours"), before) == Changed(None)
    assert await store.remove("a.ics", before) == Changed(None)
    assert await store.names() == []


async def test_a_new_event_does_not_take_the_place_of_another(store: CaldavStore):
    there = await made(store, "a.ics", event("a"))
    assert await store.write("a.ics", event("b"), None) == Changed(there)


async def test_the_same_bytes_under_another_etag_are_still_as_expected(store: CaldavStore):
    there = await made(store, "a.ics", event("a"))
    old = Resource("a.ics", there.data, '"of-an-earlier-life"')
    after = await made(store, "a.ics", event("a", "Ours"), old)
    assert await store.remove("a.ics", Resource("a.ics", after.data, '"another"')) is None


async def test_a_second_event_with_the_same_uid_is_refused_with_words(store: CaldavStore):
    there = await made(store, "a.ics", event("a"))
    with pytest.raises(Refused, match="UID"):
        await store.write("b.ics", event("a", "Again"), None)
    assert await store.names() == [("a.ics", there.etag)]


async def test_what_is_no_calendar_is_refused_and_nothing_changes(store: CaldavStore):
    with pytest.raises(Refused):
        await store.write("a.ics", b"no calendar", None)
    assert await store.names() == []


@pytest.mark.parametrize(
    "name", ["with blank.ics", "ünï-日本.ics", "100%25.ics", "a@b+c;d,e=f.ics", "q?x#y&z.ics", "~'().ics"]
)
async def test_names_with_any_characters_are_read_listed_and_found(store: CaldavStore, name: str):
    there = await made(store, name, event("u-1"))
    assert await store.names() == [(name, there.etag)]
    assert list(await store.read([name])) == [there]
    assert await store.find("u-1") == there
    assert await store.remove(name, there) is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x.ics", "a/b.ics", "a\\b.ics", "a\r\nb", "a\0b", "x" * 300, "\ud800"]
)
async def test_names_that_leave_the_calendar_are_refused(store: CaldavStore, name: str):
    with pytest.raises(Refused, match="name"):
        await store.write(name, event("a"), None)
    assert list(await store.read([name])) == [None]


async def test_an_event_is_found_by_its_whole_uid_only(store: CaldavStore):
    await made(store, "a.ics", event("meeting-12"))
    there = await made(store, "b.ics", event("meeting-1"))
    assert await store.find("meeting-1") == there
    assert await store.find("meeting") is None
    assert await store.find("<&\"'>") is None


async def test_many_events_are_read_in_order_and_a_foreign_change_is_seen(store: CaldavStore, radicale: Radicale):
    for number in range(12):
        await made(store, f"{number}.ics", event(f"u{number}"))
    names = [f"{number}.ics" for number in reversed(range(12))] + ["absent.ics"]
    first = await store.read(names)
    assert [each and each.name for each in first] == [*names[:-1], None]
    radicale.person("PUT", "3.ics", data=event("u3", "Theirs"))
    radicale.person("DELETE", "4.ics")
    second = dict(zip(names, await store.read(names), strict=True))
    changed = second["3.ics"]
    assert changed is not None and b"Theirs" in changed.data
    assert second["4.ics"] is None
    assert second["5.ics"] == dict(zip(names, first, strict=True))["5.ics"]


async def test_radicale_does_not_mail_by_itself_and_until_that_is_known_it_is_taken_to(store: CaldavStore):
    assert store.mails_by_itself
    await store.names()
    assert not store.mails_by_itself


async def test_a_wrong_password_is_said_without_showing_it(radicale: Radicale):
    store = CaldavStore(radicale.url, radicale.user, "not-the-secret")
    with pytest.raises(Refused, match="password") as raised:
        await store.names()
    assert "not-the-secret" not in repr(raised.value) + str(raised.value.__cause__) + str(raised.value.__context__)
    await store.close()


async def test_a_calendar_that_is_not_there_is_said_to_be_not_there(radicale: Radicale):
    store = CaldavStore(radicale.url.rstrip("/") + "-no/", radicale.user, radicale.password)
    with pytest.raises(Refused):
        await store.names()
    with pytest.raises(Refused):
        await store.write("a.ics", event("a"), None)
    await store.close()


async def test_a_large_calendar_is_listed_and_read_whole(store: CaldavStore, radicale: Radicale):
    inner = b"".join(
        event(f"u{number}").partition(b"BEGIN:VEVENT")[2].partition(b"END:VCALENDAR")[0].join([b"BEGIN:VEVENT", b""])
        for number in range(1_000)
    )
    whole = b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//tests//EN\r\n" + inner + b"END:VCALENDAR\r\n"
    put = radicale.person("PUT", data=whole, **{"Content-Type": "text/calendar"})
    assert put.status_code == 201
    names = await store.names()
    assert len(names) == 1_000
    found = await store.read([name for name, _ in names])
    assert [(each.name, each.etag) for each in found if each is not None] == list(names)
    assert await store.read([name for name, _ in names]) == found
