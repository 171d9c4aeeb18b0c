"""Both journals, and the means to make events for them."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from takeback.journal import events as e
from takeback.journal.ids import ActionId, CheckpointId, RunId
from takeback.journal.log import Journal
from takeback.journal.memory import MemoryJournal
from takeback.journal.sqlite import SqliteJournal
from takeback.journal.states import ABSENT, Compensation, Effect, State

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
ME = e.Caller(principal="me", client="test", client_version="1")


class Maker:
    """Makes events with ids that can be read."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def run_id(self) -> RunId:
        return RunId(f"run_{next(self._numbers)}")

    def started(self, run_id: RunId, goal: str = "tidy up") -> e.RunStarted:
        return e.RunStarted(run_id=run_id, at=NOW, owner=ME, goal=goal, steps=("one", "two"))

    def state(self, content: str) -> State:
        return State(digest=f"blake3:{content}", kind="file", content=f"blake3:{content}", size=len(content))

    def effect(self, object: str, *, system: str = "files", after: str = "new") -> Effect:
        return Effect(system=system, object=object, before=ABSENT, after=self.state(after))

    def intended(
        self,
        run_id: RunId,
        action_id: str,
        *objects: str,
        key: str | None = None,
        tool: str = "write_file",
        content: str = "hello",
        system: str = "files",
    ) -> e.ActionIntended:
        return e.ActionIntended(
            run_id=run_id,
            at=NOW,
            action_id=ActionId(action_id),
            tool=tool,
            tool_version="1",
            caller=ME,
            step="one",
            requested={"content": content},
            argument_digest=f"arguments of {action_id}",
            effects=tuple(self.effect(object, system=system) for object in objects or ("/w/a.txt",)),
            reversibility="reversible",
            compensation=Compensation(strategy="restore", how="put the earlier content back"),
            memo={"note": content},
            idempotency_key=key,
            policy_rule="default",
        )

    def applied(self, run_id: RunId, action_id: str, *objects: str, content: str = "hello") -> e.ActionApplied:
        return e.ActionApplied(
            run_id=run_id,
            at=NOW,
            action_id=ActionId(action_id),
            checkpoint_id=CheckpointId(f"chk_{action_id}"),
            effects=tuple(self.effect(object, after="observed") for object in objects or ("/w/a.txt",)),
            answer={"content": content},
            summary=f"wrote {content}",
        )


@pytest.fixture
def make() -> Maker:
    return Maker()


Opener = Callable[[], "SqliteJournalOpening"]


class SqliteJournalOpening:
    """Where a test's SQLite journal lies, and how to open it again."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "data" / "journal.db"
        self.key_file = folder / "keys" / "journal.json"
        self.anchor_file = folder / "anchors" / "anchors.log"

    async def open(self, *, read_only: bool = False) -> SqliteJournal:
        return await SqliteJournal.open(
            self.path, key_file=self.key_file, anchor_file=self.anchor_file, read_only=read_only
        )


@pytest.fixture
def place(tmp_path: Path) -> SqliteJournalOpening:
    return SqliteJournalOpening(tmp_path)


@pytest.fixture
async def sqlite_journal(place: SqliteJournalOpening) -> AsyncIterator[SqliteJournal]:
    journal = await place.open()
    yield journal
    await journal.close()


@pytest.fixture(params=["memory", "sqlite"])
async def journal(request: pytest.FixtureRequest, place: SqliteJournalOpening) -> AsyncIterator[Journal]:
    opened: Journal = MemoryJournal() if request.param == "memory" else await place.open()
    yield opened
    await opened.close()
