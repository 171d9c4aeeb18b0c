"""The demo proves what it says, and says so when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import mcp.client.stdio  # noqa: F401 -- it takes hold of standard error when it is imported, and that must not be a test's
import pytest

from takeback.server.cli.terminal import Terminal
from takeback.server.demo import story, world


def test_the_demo_holds_and_leaves_nothing_behind(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "takeback", "demo", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PATH": "", "HOME": str(tmp_path), "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["sound"]
    assert len(told["checks"]) == 14
    assert list(tmp_path.iterdir()) == []


def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person writes over the agent's own line, so that not everything can be taken back."""

    def edit(workspace: Path) -> None:
        path = workspace / world.CONFIG
        path.write_text(path.read_text().replace("Third quarter", "Autumn").replace("office@", "press@"))

    monkeypatch.setattr(world, "persons_edit", edit)


def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The person lets the other mail go, the one to the guest."""
    monkeypatch.setattr(story, "LET_GO", story.LET_GO + 1)


@pytest.mark.parametrize(
    ("spoil", "claims"),
    [
        (careless, ["those differ only by the person's edits", "the rollback says that, and leaves nothing else open"]),
        (hasty, ["the guest has heard nothing, and will hear nothing", "one correction has left, and nothing else"]),
    ],
)
async def test_the_demo_admits_it_when_the_world_is_not_as_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spoil: Any, claims: list[str]
):
    spoil(monkeypatch)
    assert not await story.tell(Terminal())
    told = capsys.readouterr().out
    assert [claim for claim in claims if f"NOT SO {claim}" not in told] == []


def test_mail_is_read_as_whoever_gets_it_reads_it_answers_last(tmp_path: Path):
    inbox = tmp_path / "mailboxes" / world.GUEST / "new"
    inbox.mkdir(parents=True)
    (inbox / "1").write_bytes(b"In-Reply-To: <a@example.org>\r\nSubject: Re: =?utf-8?q?H=C3=A4?=\r\n\r\nNo.\r\n")
    (inbox / "2").write_bytes(b"Subject: One\r\n\r\nYes.\r\n")
    assert world.mail(tmp_path, world.GUEST) == [("One", "Yes.\n"), ("Re: Hä", "No.\n")]
    assert world.mail(tmp_path, world.PRESS) == []


def test_the_fingerprint_sees_content_permissions_and_kind(tmp_path):
    world.build(tmp_path)
    before = world.fingerprint(tmp_path)
    assert world.differences(before, world.fingerprint(tmp_path)) == []
    (tmp_path / world.CONFIG).chmod(0o600)
    (tmp_path / "reports" / "q2.md").write_text("other")
    (tmp_path / "new").symlink_to("data")
    assert world.differences(before, world.fingerprint(tmp_path)) == ["new", "reports/q2.md", world.CONFIG]
