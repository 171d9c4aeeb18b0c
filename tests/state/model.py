"""One engine on real files beside a model of the world: what each action changed, and what a person wrote.

The model knows nothing of effects, digests or plans: it compares the bytes of the workspace before and after each act.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.schedules.loop import SeededLoop, no_threads
from tests.server.engine.bench import ALICE, Bench, settings_for
from tests.server.engine.reaper import Died, Reaper, interpose

from takeback.checkpoints.retention import collect, verify_objects
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.events import Caller
from takeback.journal.ids import RunId
from takeback.journal.views import ActionView, CheckpointView, OpenItem, RollbackView, RunView
from takeback.server.engine.answers import EngineError, RollbackAnswer
from takeback.server.engine.engine import Engine
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import ToolSettings

NAMES = ("a", "b", "d/c", "d/e/f")
World = dict[str, bytes | None]
UNDONE = frozenset({"restored", "already_undone"})
TOLERATED = frozenset(
    {"drifted", "no_content", "nothing", "redone", "busy", "not_found", "invalid", "conflict_settled", "is_directory"}
)


@dataclass(slots=True)
class Known:
    """An action as the model saw it."""

    before: World
    after: World
    objects: tuple[str, ...] = ()


@dataclass
class Model:
    """Everything synchronous is for the tests; the rest runs in one loop of its own."""

    portable: bool = False
    seed: int = 0
    threads: bool = False
    """Use real threads; else their work is done in the loop, in an order that the seed chooses, which takes half the time."""
    steps: int = 0
    actions: dict[str, Known] = field(default_factory=lambda: dict[str, Known]())
    marks: dict[str, str] = field(default_factory=lambda: dict[str, str]())
    """What a person wrote and has not thrown away themselves, and the file where they wrote it."""
    disturbed: bool = False
    """Whether anybody but the present run has changed something since it began."""
    run: str = ""
    start: World = field(default_factory=lambda: World())
    rollback: str | None = None

    def __post_init__(self) -> None:
        base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="takeback-state-", dir=base))
        self.work = self.folder / "work"
        self.work.mkdir()
        self.dice = random.Random(self.seed)
        self.plant()
        self.loop = asyncio.new_event_loop() if self.threads else SeededLoop(self.seed)
        self.without = ExitStack()
        if not self.threads:
            self.without.enter_context(no_threads())
        self.bench: Bench = self.wait(self._opened())
        self.begin()

    def wait(self, work: Awaitable[Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(60):
                return await work

        if isinstance(self.loop, SeededLoop):
            return self.loop.run(bounded())
        return self.loop.run_until_complete(bounded())

    async def _opened(self) -> Bench:
        settings = settings_for(
            self.folder, tools=ToolSettings(), portable_files=self.portable, triggers=TriggerSettings.off()
        )
        engine = await Engine.open(settings)
        engine.core.retry_pauses = ()
        return Bench(engine, self.work)

    # -- the world ------------------------------------------------------------------------------------------------------

    def plant(self) -> None:
        """Make the workspace what it is in the beginning."""
        for path in self.work.iterdir():
            if path.is_dir() and path.name != ".takeback":
                shutil.rmtree(path)
            elif path.is_file():
                path.unlink()
        for name in NAMES[:3]:
            self._put(name, "".join(f"line {number} of {name}\n" for number in range(9)).encode())
        self.marks.clear()
        self.rollback = None

    def _put(self, name: str, content: bytes) -> None:
        (self.work / name).parent.mkdir(parents=True, exist_ok=True)
        (self.work / name).write_bytes(content)

    def world(self) -> World:
        """What there is: the bytes of each file, `None` for a folder."""
        found: World = {}
        top = os.fspath(self.work)
        for folder, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if name != ".takeback")
            inside = folder[len(top) + 1 :] + "/" if folder != top else ""
            found.update({inside + name: None for name in folders})
            for name in files:
                with open(os.path.join(folder, name), "rb") as file:
                    found[inside + name] = file.read()
        return dict(sorted(found.items()))

    # -- the agent ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """A new run; the earlier one stays as it is."""
        self.run = self.wait(self.bench.start("a task"))
        self.start, self.disturbed = self.world(), False

    def call(self, tool: str, **arguments: Any) -> str:
        """One call; its status."""
        before = self.world()
        self.steps += 1
        # an agent that has not seen anything yet is not refused for having seen something else
        caller = Caller(principal=ALICE.principal, client=str(self.steps))
        answer = self.wait(self.bench.call(tool, self.run, caller=caller, **arguments))
        after = self.world()
        if answer.status == "applied":
            self._learn([self.wait(self.bench.engine.core.journal.get(ActionView, answer.action_id))], before, after)
        else:
            assert answer.status in ("failed", "denied"), answer
            assert answer.error.code not in ("internal", "in_doubt"), answer
            assert after == before, f"{tool} {arguments} failed ({answer.error.message}), and yet it changed the world"
        return answer.status

    def _learn(self, actions: Sequence[ActionView], before: World, after: World) -> None:
        for action in actions:
            objects = tuple(Path(each.object).relative_to(self.work).as_posix() for each in action.effects)
            self.actions[action.id] = Known(before, after, objects)

    # -- a person -------------------------------------------------------------------------------------------------------

    def person(self, how: str, name: str) -> None:
        """A person replaces, appends to, rewrites in place, or deletes a file of theirs or the agent's."""
        path = self.work / name
        if path.is_dir() or any(
            (self.work / above).is_file() for above in map(str, Path(name).parents) if above != "."
        ):
            return
        self.disturbed = True
        if how == "delete":
            if path.exists():
                self._forget(name)
                path.unlink()
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mark = f"a person was here {self.steps} {self.dice.random()}\n"
        self.steps += 1
        if how == "append":
            with path.open("ab") as file:
                file.write(mark.encode())
        else:
            self._forget(name)
            if how == "replace":
                path.with_name("new").write_text(mark * 3)
                os.replace(path.with_name("new"), path)
            else:
                path.write_text(mark * 2)
        self.marks[mark] = name

    def _forget(self, name: str) -> None:
        """What the person threw away themselves: the words that stood in this file, whoever brought it there, and stand nowhere
        else."""
        here = self.world()
        gone = here.get(name) or b""
        there = b"".join(content or b"" for other, content in here.items() if other != name)
        self.marks = {
            mark: place
            for mark, place in self.marks.items()
            if (place != name and mark.encode() not in gone) or mark.encode() in there
        }

    # -- taking back ----------------------------------------------------------------------------------------------------

    def undo(
        self, act: Callable[[], Awaitable[RollbackAnswer]], *, whole: bool = False, settles: str | None = None
    ) -> RollbackAnswer | None:
        """A rollback of any kind; what it says is held against what happened.

        :param settles: the open item that it is about: the answer also names the others of the run, which stay open.
        """
        before = self.world()
        self.steps += 1
        try:
            answer: RollbackAnswer = self.wait(act())
        except EngineError as error:
            assert error.code in TOLERATED, (error.code, error.message)
            assert self.world() == before, f"refused ({error.message}), and yet it changed the world"
            return None
        if answer.status == "planned":
            assert self.world() == before
            return answer
        self.rollback = answer.rollback_id
        if answer.status == "complete" and settles is not None:
            assert settles not in [item.conflict_id for item in answer.open_items], answer.report
        elif answer.status == "complete":
            assert not answer.open_items and not answer.other_runs, answer.report
        if not self.disturbed:
            self._holds(answer)
        if whole and not self.disturbed:
            assert answer.status == "complete", answer.report
            assert self.world() == self.start, "complete, and yet not as it was"
        return answer

    def _holds(self, answer: RollbackAnswer) -> None:
        """Every object that is called restored has the content that it had before the first action that was taken back.

        Only where nobody else has been at work: what a person wrote in between is merged, or stays.
        """
        now = self.world()
        order = list(self.actions)
        steps = sorted(
            (step for step in answer.steps if step.action_id in self.actions), key=lambda s: order.index(s.action_id)
        )
        settled: set[str] = set()
        for step in steps:
            known = self.actions[step.action_id]
            touched = {
                path
                for path in known.before.keys() | known.after.keys()
                if any(path == each or path.startswith(each + "/") for each in known.objects)
            }
            if step.outcome in UNDONE and step.why != "it changed nothing":
                for path in touched - settled:
                    if known.before.get(path, 0) != known.after.get(path, 0) and known.before.get(path) is not None:
                        assert now.get(path) == known.before[path], f"{path} is said to be {step.outcome}, and is not"
            settled |= touched

    def resolve(self, choice: Any) -> None:
        """Settle the oldest open item."""
        items = self.wait(self.bench.engine.open_items(ALICE))
        if items:
            content = "settled by a person\n" if choice == "content" else None
            self.disturbed = True
            item = items[0].conflict_id
            self.undo(lambda: self.bench.engine.resolve_conflict(ALICE, item, choice, content=content), settles=item)

    def restore_a_version(self, name: str) -> None:
        """Put an earlier content of a file back."""
        page = self.wait(self.bench.engine.list_versions(ALICE, name))
        versions = [version for version in page.versions if version.available]
        if versions:
            self.disturbed = True
            chosen = self.dice.choice(versions)
            self.undo(lambda: self.bench.engine.restore_version(ALICE, str(self.work / name), chosen.version))

    def to_a_checkpoint(self) -> RollbackAnswer | None:
        found: Sequence[CheckpointView] = self.wait(
            self.bench.engine.core.journal.find(CheckpointView, run_id=RunId(self.run))
        )
        chosen = self.dice.choice(list(found))
        return self.undo(lambda: self.bench.back(to_checkpoint=chosen.id))

    def chosen(self) -> RollbackAnswer | None:
        standing = [action.id for action in self._standing() if action.run_id == self.run]
        if not standing:
            return None
        some = self.dice.sample(standing, self.dice.randint(1, len(standing)))
        return self.undo(lambda: self.bench.back(run_id=self.run, actions=some))

    def _standing(self) -> list[ActionView]:
        return [action for action in self.wait(self.bench.engine.core.journal.find(ActionView)) if action.stands]

    # -- processes ------------------------------------------------------------------------------------------------------

    def restart(self) -> None:
        self.wait(self.bench.engine.close())
        self.bench = self.wait(self._opened())

    def crash(self, at: int, act: Callable[[Bench], Awaitable[Any]], *, alone: bool = True) -> None:
        """The process dies at the n-th journaled step or swap of this act; the next one settles it."""
        before = self.world()
        reaper = Reaper(at)
        interpose(self.bench.engine.core, reaper)
        try:
            self.wait(act(self.bench))
        except (Died, EngineError):
            pass
        except BaseExceptionGroup as group:
            if group.split(Died)[1] is not None:
                raise
        abandoned = self.bench
        self.bench = self.wait(self._opened())
        reaper.dead, reaper.at = False, 0
        self.wait(abandoned.engine.close())
        after = self.world()
        known = set(self.actions)
        self._learn_settled(before, after)
        if alone and set(self.actions) == known and not self._rolled_back_since(before, after):
            assert after == before, "nothing was applied, and yet the world changed"

    def _learn_settled(self, before: World, after: World) -> None:
        newest = self.wait(self.bench.engine.core.journal.find(ActionView, limit=5))
        self._learn([each for each in newest if each.stands and each.id not in self.actions], before, after)

    def _rolled_back_since(self, before: World, after: World) -> bool:
        rollbacks = self.wait(self.bench.engine.core.journal.find(RollbackView, limit=1))
        return bool(rollbacks) and rollbacks[0].id != self.rollback

    def garbage(self) -> None:
        core = self.bench.engine.core
        assert isinstance(core.objects, FileObjectStore)
        found = self.wait(
            collect(
                core.journal,
                core.objects,
                tuple(core.systems.values()),
                now=core.now(),
                keep_days=30,
                grace_seconds=-3600,
            )
        )
        assert not found.problems, found.problems

    # -- what always holds ----------------------------------------------------------------------------------------------

    def nothing_is_left_open(self) -> None:
        self.wait(self._nothing_is_left_open())

    async def _nothing_is_left_open(self) -> None:
        journal = self.bench.engine.core.journal
        assert not await journal.find(ActionView, status=("intended", "in_doubt"), limit=1)
        assert not await journal.find(RunView, status="sealed", limit=1)
        assert not await journal.find(RollbackView, status="running", limit=1)

    def nothing_of_a_persons_is_lost(self) -> None:
        missing = {
            mark for mark in self.marks if mark.encode() not in b"".join(c or b"" for c in self.world().values())
        }
        for mark in missing:
            assert self.wait(self._kept(mark.encode())), f"lost: {mark!r}, written to {self.marks[mark]}"

    async def _kept(self, words: bytes) -> bool:
        objects = self.bench.engine.core.objects
        async for name, _ in objects.names():
            if words in await objects.get(name):
                return True
        trashes = (self.folder / "data" / "files" / "trash", self.work / ".takeback")
        return any(
            path.is_file() and not path.is_symlink() and words in path.read_bytes()
            for trash in trashes
            for path in trash.rglob("*")
        )

    def all_is_sound(self) -> None:
        core = self.bench.engine.core
        found = self.wait(core.journal.verify())
        assert found.sound, found.problems
        problems = self.wait(verify_objects(core.journal, core.objects, now=core.now(), keep_days=30))
        assert not problems, problems
        if self.seed % 4:
            return  # a rebuild takes as long as all the rest
        kinds: tuple[Any, ...] = (RunView, ActionView, CheckpointView, RollbackView, OpenItem)
        views = {view.id: view for kind in kinds for view in self.wait(core.journal.find(kind, oldest_first=True))}
        self.wait(core.journal.rebuild())
        again = {view.id: view for kind in kinds for view in self.wait(core.journal.find(kind, oldest_first=True))}
        other = [(view, again.get(id)) for id, view in views.items() if again.get(id) != view]
        assert not other and views.keys() == again.keys(), f"a rebuild gives other views: {str(other[:1])[:1500]}"

    def close(self) -> None:
        try:
            self.wait(self.bench.engine.close())
        finally:
            self.without.close()
            if not isinstance(self.loop, SeededLoop):
                self.loop.run_until_complete(self.loop.shutdown_default_executor())
                self.loop.close()
            shutil.rmtree(self.folder, ignore_errors=True)
