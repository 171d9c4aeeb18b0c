"""Somebody saves an event in the instant of a change, and the process dies over it: the next one tells it."""

import itertools
import os
from contextlib import suppress
from pathlib import Path

import pytest
from tests.server.engine.bench import Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose
from tests.tools.calendar.series import SERIES
from tests.tools.files_system.dying import Fuse, between_calls

from takeback.journal.views import ActionView, OpenItem
from takeback.server.engine.engine import Engine
from takeback.server.settings import ToolSettings
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.calendar.vdir import VdirStore

BEFORE = SERIES["utc"]
SAVED = BEFORE.replace(b"END:VEVENT", b"LOCATION:Saved by somebody\r\nEND:VEVENT")


class Holding:
    """What a fuse is put into."""

    def __init__(self, store: VdirStore) -> None:
        self._calls = store._found


async def opened(folder: Path) -> Bench:
    engine = await Engine.open(settings_for(folder, tools=ToolSettings(off=("files", "database"))))
    engine.core.retry_pauses = ()
    return Bench(engine, folder / "work")


@pytest.mark.parametrize("tool", ["update_event", "delete_event"])
async def test_a_save_in_the_instant_of_a_change_that_died_is_there_again_and_nothing_says_the_change_was_made(
    tmp_path: Path, tool: str
) -> None:
    told: list[str] = []
    for at in itertools.count(1):
        world = tmp_path / str(at)
        event = world / "data" / "calendar" / "default" / "a.ics"
        event.parent.mkdir(parents=True)
        event.write_bytes(BEFORE)

        def save(event: Path = event) -> None:
            event.with_name("fresh").write_bytes(SAVED)
            os.replace(event.with_name("fresh"), event)

        first = await opened(world)
        run = await first.start()
        calendars = first.engine.core.systems["calendar"]
        assert isinstance(calendars, CalendarSystem)
        store = calendars.store("default")
        assert isinstance(store, VdirStore)
        await store.read(["a.ics"])
        assert store._found is not None
        fuse = Fuse(Holding(store), at, after=True, error=Died())  # type: ignore[arg-type] -- it has calls, too
        reaper = Reaper(1_000_000)
        interpose(first.engine.core, reaper)
        change = {"summary": "Ours"} if tool == "update_event" else {}
        with between_calls(store._found, 1, save), suppress(Died):
            await first.call(tool, run, calendar="default", event_id="a", **change)
        reaper.dead = fuse.burnt
        second = await opened(world)
        try:
            journal = second.engine.core.journal
            [action] = await journal.find(ActionView, run_id=run)
            items = await journal.find(OpenItem, run_id=run)
            assert event.read_bytes() == SAVED, (at, action.status)
            assert action.status in ("failed", "not_applied", "in_doubt"), at
            assert action.status != "in_doubt" or items, at
            told += [item.why for item in items]
        finally:
            await second.engine.close()
            reaper.dead = False
            await first.engine.close()
        if not fuse.burnt:
            break
    assert any("Somebody saved a.ics just before it was changed; that is there again." in why for why in told)
