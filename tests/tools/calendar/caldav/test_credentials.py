"""Passwords come from the keyring or the named variable, go to the address they were given for, and stand in no answer."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from tests.tools.calendar.caldav.conftest import Radicale

from takeback.server.cli.app import run
from takeback.tools.calendar.caldav.credentials import keep_password, password_of
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.system import Refused

SETTINGS = CalendarSettings(url="https://dav.example.com/anna/work/", username="anna")


class Kept(KeyringBackend):
    priority = 1  # type: ignore[assignment]  # a property there

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.passwords.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.passwords[service, username]


@pytest.fixture
def ring() -> Iterator[Kept]:
    earlier = keyring.get_keyring()
    kept = Kept()
    keyring.set_keyring(kept)
    yield kept
    keyring.set_keyring(earlier)


def test_a_kept_password_is_found_for_its_address_only(ring: Kept):
    keep_password("work", SETTINGS, "secret-word")
    assert password_of("work", SETTINGS) == "secret-word"
    moved = SETTINGS.model_copy(update={"url": "https://evil.example.com/anna/work/"})
    with pytest.raises(Refused, match="no password"):
        password_of("work", moved)


def test_a_named_variable_is_taken_and_the_keyring_not_asked(ring: Kept):
    settings = SETTINGS.model_copy(update={"password_variable": "WORK_PASSWORD"})
    keep_password("work", settings, "of the keyring")
    assert password_of("work", settings, {"WORK_PASSWORD": "of the variable"}) == "of the variable"
    with pytest.raises(Refused, match="WORK_PASSWORD"):
        password_of("work", settings, {})


def connect(
    radicale: Radicale, given: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *words: str, url: str = ""
) -> int:
    config = folder / "config.toml"
    config.write_text(
        f'[calendars.work]\nurl = "{url or radicale.url}"\nusername = "{radicale.user}"\n', encoding="utf-8"
    )
    monkeypatch.setattr("sys.stdin", io.StringIO(given + "\n"))
    return int(
        run(["connect", "calendar", "work", "--config", str(config), "--data", str(folder / "data"), "--json", *words])
    )


def test_connect_keeps_a_password_that_the_server_takes_and_tells_what_it_can_do(
    ring: Kept, radicale: Radicale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert connect(radicale, radicale.password, tmp_path, monkeypatch) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert told == {"url": radicale.url, "events": 0, "strong_etags": 0, "mails_by_itself": False}
    assert radicale.password not in printed.out + printed.err
    assert list(ring.passwords.values()) == [radicale.password]


def test_connect_keeps_no_password_that_the_server_does_not_take(
    ring: Kept, radicale: Radicale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert connect(radicale, "wrong-word", tmp_path, monkeypatch) != 0
    printed = capsys.readouterr()
    assert "does not accept" in printed.out + printed.err
    assert "wrong-word" not in printed.out + printed.err
    assert ring.passwords == {}


def test_connect_lists_the_calendars_of_a_server(
    ring: Kept, radicale: Radicale, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    server = radicale.url.split("/anna/")[0] + "/"
    assert connect(radicale, radicale.password, tmp_path, monkeypatch, "--discover", url=server) == 0
    assert {"url": radicale.url, "label": "Work"} in json.loads(capsys.readouterr().out)["calendars"]
    assert ring.passwords == {}
