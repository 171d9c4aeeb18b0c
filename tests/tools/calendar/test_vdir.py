"""What a folder of events is left like by a process that died."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.tools.calendar.series import SERIES

from takeback.journal.states import Effect
from takeback.tools.calendar.family import CalendarFamily
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.calendar.vdir import VdirStore
from takeback.tools.conformance import kit_services


class Gone(BaseException):
    """The process is gone."""


@pytest.fixture
async def system(tmp_path: Path):
    services = kit_services(tmp_path)
    folder = services.data / "calendar" / "default"
    folder.mkdir(parents=True)
    (folder / "a.ics").write_bytes(SERIES["utc"])
    family = await CalendarFamily.open(services)
    yield family.systems[0], folder
    await family.close()


async def changing(system: CalendarSystem) -> Effect:
    [present] = await system.look(["default//a.ics"])
    return await system.write("default//a.ics", SERIES["utc"].replace(b"Theirs", b"Ours"), present)


@pytest.mark.parametrize("step", ["exchange", "unlink"])
async def test_what_a_death_left_beside_the_events_is_cleared_away(system, step: str) -> None:
    calendars, folder = system
    effect = await changing(calendars)
    store = calendars.store("default")
    assert isinstance(store, VdirStore)
    await store.names()
    calls = store._found
    assert calls is not None

    def die(*_: object) -> None:
        raise Gone

    setattr(calls, step, die)
    with pytest.raises(Gone):
        await calendars.swap([effect])
    delattr(calls, step)
    left = [path for path in folder.iterdir() if path.name.startswith(".takeback-")]
    assert len(left) == 1
    assert await calendars.collect([], older_than_ns=10**15) == 0, "a process that lives may be at work on it"
    assert left[0].exists()
    assert await calendars.collect([], older_than_ns=0) > 0
    assert sorted(path.name for path in folder.iterdir()) == ["a.ics"]


async def test_a_file_that_a_death_left_before_anything_was_written_into_it_is_cleared_away(system) -> None:
    calendars, folder = system
    await changing(calendars)
    (folder / ".takeback-0123456789abcdef").touch()
    await calendars.collect([], older_than_ns=0)
    assert sorted(path.name for path in folder.iterdir()) == ["a.ics"]


async def test_what_somebody_saved_in_the_instant_of_a_death_is_not_cleared_away(system) -> None:
    calendars, folder = system
    await changing(calendars)
    theirs = folder / ".takeback-0123456789abcdef"
    theirs.write_bytes(SERIES["utc"].replace(b"Theirs", b"Saved by a person"))
    (folder / ".takeback-notes").write_bytes(SERIES["utc"])
    assert await calendars.collect([], older_than_ns=0) == 0
    assert theirs.exists() and (folder / ".takeback-notes").exists()


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_of_two_changes_at_the_same_instant_one_wins_and_the_other_is_told(
    tmp_path: Path, portable: bool
) -> None:
    folder, data = tmp_path / "events", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    store = VdirStore(folder, data, portable=portable)
    for number in range(60):
        name = f"{number}.ics"
        (folder / name).write_bytes(SERIES["utc"])
        [present] = await store.read([name])
        assert present is not None
        texts = [SERIES["utc"].replace(b"Theirs", who) for who in (b"Mine", b"Yours")]
        answers = await asyncio.gather(*(store.write(name, text, present) for text in texts))
        [won] = [answer for answer in answers if isinstance(answer, Resource)]
        assert (folder / name).read_bytes() == won.data
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
