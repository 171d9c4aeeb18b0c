"""The demo proves what it says, and says so when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys

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
    assert len(told["checks"]) == 10
    assert list(tmp_path.iterdir()) == []


async def test_the_demo_admits_it_when_the_world_is_not_as_promised(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def careless(workspace):
        path = workspace / world.CONFIG
        path.write_text(path.read_text().replace("Third quarter", "Autumn").replace("office@", "press@"))

    # the person now writes over the agent's own line, so that not everything can be taken back
    monkeypatch.setattr(world, "persons_edit", careless)
    assert not await story.tell(Terminal())
    assert "NOT SO" in capsys.readouterr().out


def test_the_fingerprint_sees_content_permissions_and_kind(tmp_path):
    world.build(tmp_path)
    before = world.fingerprint(tmp_path)
    assert world.differences(before, world.fingerprint(tmp_path)) == []
    (tmp_path / world.CONFIG).chmod(0o600)
    (tmp_path / "reports" / "q2.md").write_text("other")
    (tmp_path / "new").symlink_to("data")
    assert world.differences(before, world.fingerprint(tmp_path)) == ["new", "reports/q2.md", world.CONFIG]
