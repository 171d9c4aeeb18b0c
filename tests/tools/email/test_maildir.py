"""Changes of a Maildir beside another mail program that is at work on it."""

import os

import pytest
from pydantic import ValidationError
from tests.tools.email import maildirs

from takeback.tools.email.maildir.names import decode, directory_of, encode, folder_of
from takeback.tools.email.maildir.store import MaildirStore
from takeback.tools.email.port import Change, Made, Moved
from takeback.tools.email.settings import MailboxSettings, check_names
from takeback.tools.files.choosing import choose_calls
from takeback.tools.system import Unavailable


@pytest.fixture
def box(tmp_path):
    return maildirs.filled(tmp_path / "box")


@pytest.fixture(params=[False, True], ids=["kernel calls", "portable"])
def calls(request, tmp_path):
    return choose_calls(os.fsencode(tmp_path), portable=request.param)


@pytest.fixture
def store(box, calls):
    return MaildirStore(box, lambda: calls, roles=("Sent", "Trash", "Drafts"))


async def moves(store, *keys, to="Trash"):
    now = await store.look(keys)
    return [Change(key, each, store.moved(each, to)) for key, each in zip(keys, now, strict=True)]


async def test_a_message_that_lies_there_already_is_never_overwritten(store, box):
    other = maildirs.put(box, "1.a.host:2,S", b"another one", folder=".Trash")
    [change] = await moves(store, "3.c.host")
    # of the same name, and put there by somebody just now
    maildirs.put(box, "3.c.host:2,FSab", b"yet another", folder=".Trash")
    before = maildirs.tree(box)
    with pytest.raises(Exception, match="bear the name"):
        await store.change([change])
    assert maildirs.tree(box) == before
    assert other.read_bytes() == b"another one"


async def test_a_name_that_is_taken_in_the_last_moment_is_left_to_who_took_it(store, box, calls, monkeypatch):
    [change] = await moves(store, "1.a.host")
    place = calls.place

    def late(a, a_name, b, b_name):
        monkeypatch.setattr(calls, "place", place)
        maildirs.put(box, b_name.decode(), b"theirs", folder=".Trash")
        place(a, a_name, b, b_name)

    monkeypatch.setattr(calls, "place", late)
    with pytest.raises(Exception, match="bear the name"):
        await store.change([change])
    assert (box / "cur" / "1.a.host:2,S").read_bytes() == maildirs.letter(1)
    assert (box / ".Trash" / "cur" / "1.a.host:2,S").read_bytes() == b"theirs"


async def test_another_program_that_renames_first_wins_and_what_was_begun_is_put_back(store, box, calls, monkeypatch):
    changes = await moves(store, "1.a.host", "5.e.host")
    place, seen = calls.place, []

    def late(a, a_name, b, b_name):
        seen.append(a_name)
        if len(seen) == 2:
            (box / "cur" / "5.e.host").rename(box / "cur" / "5.e.host:2,S")
        place(a, a_name, b, b_name)

    monkeypatch.setattr(calls, "place", late)
    answer = await store.change(changes)
    assert isinstance(answer, Moved)
    assert answer.present[1].flags == frozenset("S")
    assert {name for name in maildirs.tree(box) if name.startswith("cur/")} == {
        "cur/1.a.host:2,S",
        "cur/3.c.host:2,FSab",
        "cur/5.e.host:2,S",
    }


async def test_a_disk_that_fails_in_the_middle_leaves_everything_as_it_was(store, box, calls, monkeypatch):
    changes = await moves(store, "1.a.host", "3.c.host", "5.e.host")
    before = maildirs.tree(box)
    place, seen = calls.place, []

    def broken(a, a_name, b, b_name):
        seen.append(a_name)
        if len(seen) == 3:
            raise OSError(5, "Input/output error")
        place(a, a_name, b, b_name)

    monkeypatch.setattr(calls, "place", broken)
    with pytest.raises(Unavailable, match="Nothing was changed"):
        await store.change(changes)
    assert maildirs.tree(box) == before


async def test_what_was_begun_before_a_crash_is_finished_when_it_is_asked_for_again(store, box):
    changes = await moves(store, "1.a.host", "3.c.host")
    (box / "cur" / "1.a.host:2,S").rename(box / ".Trash" / "cur" / "1.a.host:2,S")
    # and of the second one a link was made and the old name not yet taken away
    os.link(box / "cur" / "3.c.host:2,FSab", box / ".Trash" / "cur" / "3.c.host:2,FSab")
    assert isinstance(await store.change(changes), Made)
    names = [name for name in maildirs.tree(box) if "1.a" in name or "3.c" in name]
    assert names == [".Trash/cur/1.a.host:2,S", ".Trash/cur/3.c.host:2,FSab"]


async def test_a_message_that_was_replaced_under_its_name_is_somebody_elses(store, box, calls, monkeypatch):
    [change] = await moves(store, "1.a.host")
    place, seen = calls.place, []

    def late(a, a_name, b, b_name):
        if not seen:
            seen.append(a_name)
            (box / "cur" / "1.a.host:2,S").unlink()
            maildirs.put(box, "1.a.host:2,S", b"replaced")
        place(a, a_name, b, b_name)

    monkeypatch.setattr(calls, "place", late)
    assert isinstance(await store.change([change]), Moved)
    assert (box / "cur" / "1.a.host:2,S").read_bytes() == b"replaced"


@pytest.mark.parametrize("name", ["Entwürfe", "日本語", "a & b", "Größe/2024", "~x", "台北/日本語", "&"])
def test_folders_of_any_language_have_one_directory_and_back(name):
    assert folder_of(directory_of(name)) == name
    assert decode(encode(name)) == name


def test_the_examples_of_the_rfc():
    assert encode("~peter/mail/台北/日本語") == "~peter/mail/&U,BTFw-/&ZeVnLIqe-"
    assert decode("&Jjo-!") == "☺!"


@pytest.mark.parametrize(
    "name", ["..", "../x", "a/../b", "a//b", "/a", "a/", "a.b", "a\0b", "a\nb", "", "x" * 300, "\ud800"]
)
def test_no_folder_leads_out_of_the_maildir(name):
    assert directory_of(name) is None


def test_settings_that_would_do_nothing_are_refused(tmp_path):
    for wrong in (
        {"imap": "imaps://mail.example.org"},
        {},
        {"path": "relative"},
        {"path": tmp_path, "smtp": "smtp://me:secret@mail.example.org"},
        {"path": tmp_path, "smtp": "smtp://mail.example.org"},
        {"path": tmp_path, "sent": "Trash"},
    ):
        with pytest.raises(ValidationError) as refused:
            MailboxSettings.model_validate(wrong)
        assert "it holds" not in str(refused.value.errors()[0]["msg"])
    with pytest.raises(ValueError, match="has to be a letter"):
        check_names({"a/b": MailboxSettings(path=tmp_path)})
