"""Death between any two messages of one act on a Maildir, on the way there and back: the next process makes it whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.server.engine.bench import ALICE, Bench
from tests.server.engine.reaper import Died, Reaper
from tests.server.engine.test_email_histories import open_engine
from tests.tools.email import maildirs

from takeback.journal.views import ActionView, OpenItem, RunView
from takeback.server.engine.answers import EngineError
from takeback.tools.email.maildir.changing import Changing

KEYS = ["1.host", "2.host", "3.host", "4.host"]
ACTS: dict[str, tuple[str, dict[str, Any]]] = {
    "move": ("move_email", {"destination": "Archive/2024"}),
    "flag": ("flag_email", {"add": ["flagged", "seen"], "remove": ["answered"]}),
    "delete": ("delete_email", {}),
}


def plant(box: Path) -> None:
    maildirs.make(box)
    for number, (sub, name) in enumerate([("new", ""), ("cur", ":2,R"), ("cur", ":2,S"), ("cur", ":2,Rab")], start=1):
        maildirs.put(box, f"{number}.host{name}", maildirs.letter(number), sub=sub, at=maildirs.TIME + number)


def dying(bench: Bench, reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Die before or after the n-th rename, and write down nothing any more."""
    place, append = Changing._place, bench.engine.core.journal.append

    def placed(*given: Any) -> None:
        reaper.check()
        place(*given)
        reaper.check()

    async def appended(*given: Any, **more: Any) -> Any:
        if reaper.dead:
            raise Died
        return await append(*given, **more)

    monkeypatch.setattr(Changing, "_place", placed)
    monkeypatch.setattr(bench.engine.core.journal, "append", appended)


async def died(bench: Bench, run: str, name: str, arguments: dict[str, Any], *, back: bool = True) -> None:
    """Act, take it back and bring it back, as far as that goes."""
    try:
        await bench.call(name, run, mailbox="work", message_ids=KEYS, **arguments)
        if back:
            answer = await bench.back(run_id=run)
            await bench.engine.redo(ALICE, str(answer.rollback_id))
    except Died:
        pass
    except BaseExceptionGroup as group:
        if group.split(Died)[1] is not None:
            raise


@pytest.mark.parametrize("act", ACTS)
async def test_death_between_any_two_messages_is_settled_and_taken_back_exactly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    halves = 0
    for n in range(1, 100):
        folder = tmp_path / str(n)
        folder.mkdir()
        plant(folder / "box")
        before = maildirs.tree(folder / "box")
        first = await open_engine(folder, folder / "box")
        run = await first.start()
        reaper = Reaper(n)
        with monkeypatch.context() as patch:
            dying(first, reaper, patch)
            await died(first, run, *ACTS[act])
        halves += 0 < len(before.keys() - maildirs.tree(folder / "box").keys()) < len(KEYS)
        second = await open_engine(folder, folder / "box")
        try:
            journal = second.engine.core.journal
            assert not await journal.find(ActionView, status=("intended", "in_doubt")), n
            assert not await journal.find(RunView, status="sealed"), n
            now = maildirs.tree(folder / "box")
            moved = before.keys() - now.keys()
            assert len(moved) in (0, len(KEYS)), (n, "some of it is there and some is not")
            [action] = await journal.find(ActionView)
            assert action.stands == bool(moved), n
            try:
                assert (await second.back(run_id=run)).status == "complete", n
            except EngineError as error:
                assert error.code == "nothing", n
            assert maildirs.tree(folder / "box") == before, n
            assert not await journal.find(OpenItem, status="open"), n
        finally:
            await second.engine.close()
            await first.engine.close()
        if reaper.count < n:
            assert halves > 5
            return
    raise AssertionError("it never ran through")


@pytest.mark.parametrize("act", ACTS)
async def test_what_another_program_destroys_before_that_is_settled_stays_destroyed_and_the_rest_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    plant(tmp_path / "box")
    before = maildirs.tree(tmp_path / "box")
    first = await open_engine(tmp_path, tmp_path / "box")
    run = await first.start()
    with monkeypatch.context() as patch:
        dying(first, Reaper(4), patch)  # after the second message
        await died(first, run, *ACTS[act], back=False)
    await first.engine.close()
    [gone] = [file for file in (tmp_path / "box").rglob("1.host*") if file.is_file()]
    gone.unlink()
    second = await open_engine(tmp_path, tmp_path / "box")
    try:
        [action] = await second.engine.core.journal.find(ActionView)
        assert action.status == "in_doubt"
        [item] = await second.engine.core.journal.find(OpenItem, status="open")
        await second.engine.resolve_conflict(ALICE, item.id, "theirs")
        answer = await second.back(run_id=run)
        assert answer.status in ("complete", "partial"), answer.report
        now = maildirs.tree(tmp_path / "box")
        assert now == {name: kept for name, kept in before.items() if not name.endswith("1.host")}
    finally:
        await second.engine.close()
