"""What a folder of events is left like by a process that died."""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.tools.calendar.series import SERIES
from tests.tools.files_system.dying import Fuse, between_calls

from takeback.journal.states import ABSENT, Effect
from takeback.tools.calendar.family import CalendarFamily
from takeback.tools.calendar.port import Resource
from takeback.tools.calendar.system import CalendarSystem
from takeback.tools.calendar.vdir import VdirStore
from takeback.tools.conformance import kit_services
from takeback.tools.system import Drifted, Swapped, TargetError


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


# -- where two files cannot be exchanged in one step -------------------------------------------------------------------

BEFORE, OURS = SERIES["utc"], SERIES["utc"].replace(b"Theirs", b"Ours")
SAVED = SERIES["utc"].replace(b"Theirs", b"Saved by a person")


@pytest.fixture
async def portable(tmp_path: Path) -> AsyncIterator[VdirStore]:
    (tmp_path / "calendar").mkdir()
    (tmp_path / "data").mkdir()
    store = VdirStore(tmp_path / "calendar", tmp_path / "data", portable=True)
    await store.names()
    yield store


async def once(store: VdirStore, at: int, act: Callable[[], None], *, removing: bool) -> tuple[list[str], object]:
    """Change a file, with something done before the n-th call."""
    assert store._found is not None
    for path in store.folder.iterdir():
        path.unlink()
    (store.folder / "a.ics").write_bytes(BEFORE)
    [present] = await store.read(["a.ics"])
    assert present is not None
    with between_calls(store._found, at, act) as seen:
        try:
            answer: object = await (store.remove("a.ics", present) if removing else store.write("a.ics", OURS, present))
        except (TargetError, Gone) as error:
            answer = error
    return seen, answer


@pytest.mark.parametrize("removing", [False, True])
async def test_what_somebody_saves_between_two_calls_is_there_or_is_named(portable: VdirStore, removing: bool) -> None:
    def save() -> None:
        (portable.folder / "fresh").write_bytes(SAVED)
        os.replace(portable.folder / "fresh", portable.folder / "a.ics")

    for at in itertools.count(1):
        seen, answer = await once(portable, at, save, removing=removing)
        if not seen:
            assert at > 2
            return
        holding = [path.name for path in portable.folder.iterdir() if path.read_bytes() == SAVED]
        assert any(name == "a.ics" or name in str(answer) for name in holding), (at, seen, answer, holding)


@pytest.mark.parametrize("removing", [False, True])
async def test_an_event_is_as_it_was_or_as_it_should_be_after_a_death(portable: VdirStore, removing: bool) -> None:
    def die() -> None:
        raise Gone

    for at in itertools.count(1):
        seen, _ = await once(portable, at, die, removing=removing)
        if not seen:
            assert at > 2
            return
        [found] = await portable.read(["a.ics"])
        wanted = None if removing else OURS
        assert (found and found.data) in (BEFORE, wanted), (at, seen)
        for name, data in await portable.leftovers(0):
            assert data in (BEFORE, OURS) and await portable.clear(name, data)
        assert {path.name for path in portable.folder.iterdir()} <= {"a.ics"}, (at, seen)


# -- somebody saves just before the change, and the process dies over it ----------------------------------------------


class _Holding:
    """What a fuse is put into."""

    def __init__(self, store: VdirStore) -> None:
        self._calls = store._found


@pytest.mark.parametrize("again", [False, True], ids=["", "saved again"])
@pytest.mark.parametrize("removing", [False, True], ids=["changed", "removed"])
@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_what_a_change_brought_out_as_it_died_goes_back_or_is_named_at_the_next_start(
    tmp_path: Path, portable: bool, removing: bool, again: bool
) -> None:
    folder, data = tmp_path / "events", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    event = folder / "a.ics"
    objects = kit_services(tmp_path).objects

    def opened() -> CalendarSystem:
        return CalendarSystem({"default": lambda: VdirStore(folder, data, portable=portable)}, objects)

    def save(content: bytes) -> None:
        (folder / "fresh").write_bytes(content)
        os.replace(folder / "fresh", event)

    for at in itertools.count(1):
        for path in folder.iterdir():
            path.unlink()
        event.write_bytes(BEFORE)
        calendars = opened()
        effect = await changing(calendars)
        if removing:
            effect = effect.model_copy(update={"after": ABSENT})
        store = calendars.store("default")
        assert isinstance(store, VdirStore) and store._found is not None
        fuse = Fuse(_Holding(store), at, after=True, error=Gone())  # type: ignore[arg-type] -- it has calls, too
        with between_calls(store._found, 1, lambda: save(SAVED)), suppress(Gone):
            await calendars.swap([effect])
        brought_out = event.exists() is not removing and (removing or event.read_bytes() == OURS)
        if again and brought_out:
            save(BEFORE.replace(b"Theirs", b"Saved later"))
        try:
            answer: object = await opened().swap([effect])
        except TargetError as error:
            answer = f"{error} {error.advice}"
        holding = [path.name for path in folder.iterdir() if path.read_bytes() == SAVED]
        told = answer.why if isinstance(answer, Drifted) else str(answer)
        assert not isinstance(answer, Swapped), (at, answer)
        if again and brought_out:
            assert [name for name in holding if name in told and name != "a.ics"], (at, holding, told)
            assert b"Saved later" in event.read_bytes()
        else:
            assert holding == ["a.ics"], (at, holding, told)
        if fuse.left > 0:
            assert at > 2
            return


@pytest.mark.parametrize("taken", [False, True], ids=["", "name taken"])
@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
async def test_a_change_that_died_is_made_by_the_next_try(tmp_path: Path, portable: bool, taken: bool) -> None:
    """What the first one had laid beside the event does not stand in the way, and what is somebody's stays."""
    folder, data = tmp_path / "events", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    for at in itertools.count(1):
        (folder / "a.ics").write_bytes(BEFORE)
        store = VdirStore(folder, data, portable=portable)
        [present] = await store.read(["a.ics"])
        assert present is not None and store._found is not None
        fuse = Fuse(_Holding(store), at, after=True, error=Gone())  # type: ignore[arg-type] -- it has calls, too
        with suppress(Gone):
            await store.write("a.ics", OURS, present)
        left = [path for path in folder.iterdir() if path.name.startswith(".takeback-")]
        for path in left if taken else []:
            path.write_bytes(SAVED)
        again = VdirStore(folder, data, portable=portable)
        [there] = await again.read(["a.ics"])
        assert there is not None and there.data in (BEFORE, OURS, SAVED)
        if there.data == BEFORE:
            assert isinstance(await again.write("a.ics", OURS, there), Resource)
            assert (folder / "a.ics").read_bytes() == OURS
        if taken and left:
            assert SAVED in [path.read_bytes() for path in folder.iterdir()], at
        for path in folder.iterdir():
            path.unlink()
        if fuse.left > 0:
            return
