"""What waits for a person, at the terminal: listed, closed, put together for others; and what people were told."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.server.cli.conftest import Desk

from takeback.checkpoints.oslock import held
from takeback.server.notices.settings import NotifySettings, WebhookSettings
from takeback.server.settings import NotifySection
from takeback.server.watching import lock_file


@pytest.fixture
def conflicted(desk: Desk) -> Desk:
    """An agent changed a file, its user did so too, and the rollback left that open."""
    (desk.site / "notes.txt").write_text("one\n")
    desk.agent(("write_file", {"path": "notes.txt", "content": "two\n"}))
    (desk.site / "notes.txt").write_text("three\n")
    assert desk("rollback", desk.run_id, "--yes").code == 1
    return desk


def configured(desk: Desk, text: str) -> None:
    Path(desk.settings.data.parent / "config.toml").write_text(text)


def test_what_is_open_is_listed_with_the_call_and_closed_with_a_reason(conflicted: Desk) -> None:
    found = conflicted("open")
    assert found.code == 1
    for said in (
        "notes.txt",
        "with path `notes.txt` and content `two`",
        "next:",
        "to close it: takeback settle cfl_",
        "1 open.",
    ):
        assert said in found.out, said
    [thing] = conflicted("open", conflicted.run_id[:12], "--json").json["open"]
    assert (thing["kind"], thing["run_id"]) == ("conflict", conflicted.run_id)
    assert conflicted("settle", thing["item_id"]).code == 2
    assert conflicted("settle", thing["item_id"], "--reason", " ").code == 2
    assert conflicted("settle", "cfl_nonesuch", "--reason", "x").code == 3
    assert conflicted("doctor").code == 1
    assert conflicted("settle", thing["item_id"][:12], "--reason", "merged by hand").code == 0
    assert (conflicted("open").code, conflicted("open").out.strip()) == (0, "Nothing is open.")
    assert (conflicted.site / "notes.txt").read_text() == "three\n"


def test_a_bundle_for_support_is_written_and_only_mailed_where_that_can_be_done(
    conflicted: Desk, tmp_path: Path
) -> None:
    file = tmp_path / "support.zip"
    told = conflicted("support", conflicted.run_id, "-o", str(file), "--json")
    assert (told.code, told.json["sent"], told.json["address"]) == (0, False, "")
    assert conflicted("verify", "--bundle", str(file)).code == 0
    assert "Set [support] address" in conflicted("support", conflicted.run_id, "--send").err
    configured(conflicted, '[support]\naddress = "help@example.org"\n')
    assert "mail it to help@example.org" in conflicted("support", conflicted.run_id, "-o", str(tmp_path / "b.zip")).out
    refused = conflicted("support", conflicted.run_id, "-o", str(tmp_path / "c.zip"), "--send", "--yes")
    assert refused.code == 2
    assert "No mailbox here can send mail." in refused.err
    assert not (tmp_path / "c.zip").exists()


def test_numbers_since_then(conflicted: Desk) -> None:
    everything, nothing = (
        conflicted("stats", "--json").json,
        conflicted("stats", "--since", "2126-01-01", "--json").json,
    )
    assert everything["actions"]["by_tool"]["write_file"]["calls"] == 1
    assert nothing["actions"]["by_tool"] == {}
    assert conflicted("stats", "--since", "soon").code == 2


def test_notices_are_listed_tried_and_sent_at_the_terminal(desk: Desk) -> None:
    assert desk("notices", "test").code == 3
    configured(desk, '[notify.webhooks.ops]\nurl = "https://example.org/x"\nsecret_variable = "NOT_SET"\n')
    hook = WebhookSettings(url="https://example.org/x", secret_variable="NOT_SET")
    desk.settings = desk.settings.model_copy(
        update={"notify": NotifySection.model_validate(NotifySettings(webhooks={"ops": hook}).model_dump())}
    )
    desk.agent(("write_file", {"path": "notes.txt", "content": "two\n"}))
    with another_at_it(desk):
        assert (desk("notices").code, desk("notices").out.strip()) == (0, "No notices.")
        assert desk("contain", desk.run_id, "--reason", "it looked wrong").code == 0
        assert desk("notices", "run", "--json").json == {"done": False}
    assert desk("notices", "run").code == 0
    with another_at_it(desk):
        [row] = desk("notices", "--json").json["notices"]
        why = "the environment variable NOT_SET, with its secret, is not set"
        assert (row["status"], row["channel"], row["kind"], row["detail"]) == (
            "DEAD",
            "webhook:ops",
            "run_contained",
            why,
        )
        assert why in desk("open").out
        assert desk("notices", "test").code == 1
        assert desk("stats", "--json").json["notices"] == {"dead": 1}
        assert desk("notices", "retry", "--json").json == {"again": 1}
    assert desk("notices", "run").code == 0
    with another_at_it(desk):
        [thing] = desk("open", "--json").json["open"]
        assert thing["kind"] == "notice"
        assert desk("settle", thing["item_id"], "--reason", "told her myself").code == 0
        assert desk("open").code == 0
        assert [each["status"] for each in desk("notices", "--all", "--json").json["notices"]] == ["SETTLED"]
        assert desk("notices", "secret", "ops").code == 2
        assert desk("notices", "secret", "other").code == 3


@contextmanager
def another_at_it(desk: Desk) -> Iterator[None]:
    """As if the process that sends were at work already: the commands inside start none of their own."""
    file = lock_file(desk.settings.data)
    file.parent.mkdir(exist_ok=True)
    with held(os.fspath(file), wait=False) as mine:
        assert mine
        yield


def test_the_doctor_shows_channels_and_no_addresses(desk: Desk) -> None:
    configured(desk, '[notify]\nurls = ["slack://tokena/tokenb"]\n[audit]\nurl = "https://example.org/t0ken"\n')
    desk.agent(("write_file", {"path": "notes.txt", "content": "two\n"}))
    told = desk("doctor", "--json")
    assert told.json["settings"]["notify.urls"]["value"] == "slack"
    assert told.json["settings"]["audit.url"]["value"] == "https://example.org/…"
    assert "tokenb" not in told.out
    assert "t0ken" not in told.out
