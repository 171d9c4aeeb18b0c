"""Every example on every page runs, and prints what the page says."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from takeback.journal.events import Caller
from takeback.server.engine.engine import Call, Engine
from takeback.server.principal import local_principal
from takeback.server.roots import remember
from takeback.server.settings import Settings, WorkspaceSettings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the pages show what a Linux terminal shows")

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _console() -> ModuleType:
    spec = importlib.util.spec_from_file_location("takeback_docs_console", Path(__file__).with_name("console.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


console = _console()

SITE = """\
title = "Second quarter"
report = "reports/q2.md"

[build]
minify = true

[contact]
mail = "office@example.org"
"""
WORK = [
    (
        "write the report",
        "write_file",
        {"path": "reports/q3.md", "content": "# Third quarter\n\nRevenue grew by 6 per cent.\n"},
    ),
    (
        "announce it",
        "edit_file",
        {"path": "site.toml", "edits": [{"old_text": "Second quarter", "new_text": "Third quarter"}]},
    ),
    ("tidy up", "delete_file", {"path": "drafts", "recursive": True}),
]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path is as long as the one that the pages show."""
    folder = Path("/tmp") / secrets.token_hex(2)  # tmp_path would be longer, and tables would look different
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def work(home: Path) -> dict[str, str]:
    """What an agent did before the page begins; the ids that the page speaks of."""
    site = home / "site"
    (site / "drafts").mkdir(parents=True)
    (site / "reports").mkdir()
    (site / "site.toml").write_text(SITE)
    (site / "drafts" / "q3.md").write_text("# Third quarter (draft)\n")
    (site / "reports" / "q2.md").write_text("# Second quarter\n")
    settings = Settings(
        workspace=WorkspaceSettings(roots=(site,)),
        data=home / "data",
        key_file=home / "key.json",
        anchor_file=home / "anchors",
    )
    remember(settings.data, settings.workspace.roots)
    agent = Caller(principal=local_principal(), client="claude-code", client_version="2")
    engine = await Engine.open(settings)
    try:
        run = await engine.start_run(agent, "Publish the third-quarter report", steps=[step for step, _, _ in WORK])
        names = {"RUN": run.run_id}
        for step, tool, arguments in WORK:
            answer = await engine.call(Call(tool, arguments, agent, run_id=run.run_id, step=step))
            assert answer.status == "applied", answer
            assert answer.action_id
            assert answer.checkpoint_id
            if tool == "edit_file":
                names |= {"EDIT": answer.action_id, "CHECKPOINT": answer.checkpoint_id}
    finally:
        await engine.close()
    return names


@pytest.mark.parametrize(
    "page", [page for page in PAGES if "```console" in page.read_text("utf-8")], ids=lambda page: page.stem
)
async def test_every_example_prints_what_the_page_says(page: Path, home: Path):
    names = {name: (lambda value=value: value) for name, value in (await work(home)).items()}
    stage = console.Stage(home, names)

    def conflict() -> str:
        [item] = stage.json("conflicts")["open_items"]
        return item["conflict_id"]

    names["CONFLICT"] = conflict
    assert console.perform(page, stage, write=bool(os.environ.get("TAKEBACK_WRITE_DOCS"))) == []


def test_a_page_that_says_something_else_is_found_out():
    assert console.agree(["a", "…", "z"], ["a", "b", "c", "z"])
    assert console.agree(["a", "…"], ["a"])
    assert not console.agree(["a", "z"], ["a", "b", "z"])
    assert not console.agree([], ["a"])
    assert not console.agree(["a.c"], ["abc"])
