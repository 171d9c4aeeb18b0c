"""The sandbox: a copy of what a run touched or named, brought back to how it was when the run began.

Only what lies on this machine can be copied: files, SQLite files, calendars and mailboxes in folders. Nothing that is done in a
sandbox reaches anything outside; mail that is held there is never sent, because no sender is started for it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw

from takeback.journal.states import Effect, State
from takeback.journal.views import ActionView
from takeback.server.drill.calls import texts
from takeback.server.drill.world import BESIDE, Part, World, is_beside, is_sqlite, world
from takeback.server.engine.answers import EngineError
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.settings import LimitSettings, PolicySettings, Settings, ToolSettings, WorkspaceSettings
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.files.drafting import NAME as FILES_SYSTEM
from takeback.tools.files.system import FileSystem
from takeback.tools.system import Drifted, TargetError, TargetSystem

if TYPE_CHECKING:
    from takeback.server.engine.core import Core

LARGEST: Final = 1024 * 1024 * 1024
"""Bytes that are copied at most, for each sandbox."""
_LONGEST_NAME: Final = 4096
_NAMED: Final = 5
EMBEDDED: Final = ("calendar", "mail")
"""Folders of the data directory in which the default calendar and mailbox lie."""


@dataclass(frozen=True, slots=True)
class Shape:
    """How the parts of a real configuration are laid out in a sandbox."""

    settings: Settings
    """The real ones."""
    roots: tuple[Path, ...]
    """The workspace, as real paths."""

    def parts(self, sandbox: Path) -> list[Part]:
        """Everything in a sandbox whose content counts."""
        data = sandbox / "data"
        return [
            *(Part(root.name, root) for root in self.roots_in(sandbox)),
            Part("databases", sandbox / "databases"),
            Part("calendars", sandbox / "calendars", folders=False, times=False),
            Part("calendar", data / "calendar", folders=False, times=False),
            Part("mailboxes", sandbox / "mailboxes", folders=False),
            Part("mail", data / "mail", folders=False),
        ]

    def roots_in(self, sandbox: Path) -> list[Path]:
        """The workspace of a sandbox."""
        return [sandbox / "roots" / str(number) / (root.name or "root") for number, root in enumerate(self.roots)]

    def path_in(self, sandbox: Path, text: str) -> str:
        """A path or an object's id, as it is called in a sandbox; any other text stays as it is."""
        for prefix in ("files:", ""):
            if not text.startswith(prefix):
                continue
            rest = text.removeprefix(prefix)
            for root, there in zip(self.roots, self.roots_in(sandbox), strict=True):
                if rest == str(root) or rest.startswith(f"{root}{os.sep}"):
                    return f"{prefix}{there}{rest.removeprefix(str(root))}"
        return text

    def settings_in(self, sandbox: Path) -> Settings:
        """The configuration that a server has in a sandbox."""
        real = self.settings
        return Settings(
            workspace=WorkspaceSettings(roots=tuple(self.roots_in(sandbox))),
            limits=LimitSettings(**{**real.limits.model_dump(), "ballast_bytes": 0}),
            tools=ToolSettings(off=real.tools.off),
            policy=PolicySettings(),
            triggers=TriggerSettings.off(),  # it works at a machine's pace
            outbox=real.outbox,
            databases={
                name: its.model_copy(update={"url": f"sqlite:///{sandbox / 'databases' / name}.db"})
                for name, its in real.databases.items()
                if its.url.startswith("sqlite:")
            },
            calendars={
                name: self._calendar_in(sandbox, name, its) for name, its in real.calendars.items() if its.url is None
            },
            mailboxes={
                name: its.model_copy(update={"path": sandbox / "mailboxes" / name, "smtp": None})
                for name, its in real.mailboxes.items()
                if its.path is not None
            },
            data=sandbox / "data",
            key_file=sandbox / "keys" / "chain.key",
            anchor_file=sandbox / "keys" / "anchors.log",
            portable_files=real.portable_files,
        )

    def _calendar_in(self, sandbox: Path, name: str, real: CalendarSettings) -> CalendarSettings:
        """A calendar of the sandbox. One without a path lies in the data directory there too."""
        changed: dict[str, object] = {} if real.path is None else {"path": sandbox / "calendars" / name}
        mailbox = self.settings.mailboxes.get(real.mailbox)
        if (
            mailbox is not None and mailbox.path is None
        ):  # on a server, so not in the sandbox: nobody is told from there
            changed |= {"mailbox": "", "organizer": ""}
        return real.model_copy(update=changed)

    def elsewhere(self, effect: Effect) -> str:
        """Why an object cannot be copied into a sandbox; empty if it can."""
        name = effect.object.partition("/")[0]
        match effect.system:
            case "files" | "outbox":
                return ""
            case "database":
                its = self.settings.databases.get(name)
                local = effect.object.startswith("files:") or (its is not None and its.url.startswith("sqlite:"))
                return "" if local else f"the database {name} is on a server, of which no copy can be made here"
            case "calendar":
                calendar = self.settings.calendars.get(name)
                local = calendar is None or calendar.url is None
                return "" if local else f"the calendar {name} is on a server, of which no copy can be made here"
            case "email":
                mailbox = self.settings.mailboxes.get(name)
                local = mailbox is None or mailbox.path is not None
                return "" if local else f"the mailbox {name} is on a server, of which no copy can be made here"
            case _:
                return f"{effect.system} objects cannot be copied into a sandbox"


class Builder:
    """Makes the sandbox from which every rehearsal of a run begins."""

    def __init__(self, core: Core, sandbox: Path) -> None:
        self._core, self._sandbox = core, sandbox
        self.shape = Shape(core.settings, tuple(Path(os.path.realpath(root)) for root in core.settings.workspace.roots))
        self.notes: list[str] = []
        """What of the beginning could not be had."""
        self._room = LARGEST

    async def build(self, actions: Sequence[ActionView]) -> World:
        """Copy the world of these actions and bring it back to before the first of them; what it looks like then.

        :raises EngineError: it is too large.
        """
        for root in self.shape.roots_in(self._sandbox):
            root.mkdir(parents=True)
        settings = self.shape.settings_in(self._sandbox)
        settings.data.mkdir(mode=0o700)
        self._copy_files(actions)
        self._copy_stores(settings)
        await self._bring_back_files(actions)
        await self._bring_back_the_rest(actions, settings)
        return world(self.shape.parts(self._sandbox))

    # -- as it is now --------------------------------------------------------------------------------------------------

    def _copy_files(self, actions: Sequence[ActionView]) -> None:
        for path in sorted(self._touched(actions) | self._named(actions)):
            there = Path(self.shape.path_in(self._sandbox, str(path)))
            if os.path.lexists(path) and path not in self.shape.roots and not os.path.lexists(there):
                self._copy(path, there)

    def _touched(self, actions: Iterable[ActionView]) -> set[Path]:
        effects = [effect for action in actions for effect in action.effects]
        return {Path(effect.object) for effect in effects if effect.system == FILES_SYSTEM}

    def _named(self, actions: Iterable[ActionView]) -> set[Path]:
        """What arguments name beyond that: the source of a copy, a database in the workspace, an attachment."""
        files = self._core.systems.get(FILES_SYSTEM)
        found: set[Path] = set()
        if not isinstance(files, FileSystem):
            return found
        for text in (each for action in actions for each in texts(dict(action.requested))):
            if len(text) < _LONGEST_NAME and "\n" not in text:
                try:
                    found.add(Path(files.resolve(text)))
                except TargetError:
                    continue
        return found

    def _copy(self, path: Path, there: Path) -> None:
        there.parent.mkdir(parents=True, exist_ok=True)
        for source in (path, *(path.rglob("*") if path.is_dir() and not path.is_symlink() else ())):
            self._room -= source.lstat().st_size
        if self._room < 0:
            raise EngineError(
                "too_large",
                "What the run touched is too large for a rehearsal.",
                "Rehearse a smaller run; drills of the same tools on small files prove the same.",
            )
        if path.is_symlink() or not path.is_dir():
            _copy_one(str(path), str(there))
            return
        shutil.copytree(path, there, symlinks=True, ignore=_ignored, copy_function=_copy_one)

    def _copy_stores(self, settings: Settings) -> None:
        real = self._core.settings
        pairs = [(real.data / part, settings.data / part) for part in EMBEDDED]
        folders = [(real.calendars[name].path, its.path) for name, its in settings.calendars.items()]
        folders += [(real.mailboxes[name].path, its.path) for name, its in settings.mailboxes.items()]
        pairs += [(path, there) for path, there in folders if path is not None and there is not None]
        for name, database in settings.databases.items():
            pairs.append((Path(_file_of(real.databases[name].url)), Path(_file_of(database.url))))
        for path, there in pairs:
            if path.expanduser().exists():
                self._copy(path.expanduser(), there)
            else:
                there.parent.mkdir(parents=True, exist_ok=True)

    # -- as it was -----------------------------------------------------------------------------------------------------

    async def _bring_back_files(self, actions: Sequence[ActionView]) -> None:
        files = self._core.systems.get(FILES_SYSTEM)
        first: dict[str, State] = {}
        for effect in (effect for action in actions if action.stands for effect in action.effects):
            if effect.system == FILES_SYSTEM:
                first.setdefault(effect.object, effect.before)
        for object in sorted(first, key=lambda name: (name.count(os.sep), name)):
            there = Path(self.shape.path_in(self._sandbox, object))
            _remove(there)
            if first[object].absent or not isinstance(files, FileSystem):
                continue
            there.parent.mkdir(parents=True, exist_ok=True)
            if not await files.bring_out(first[object], there):
                self.notes.append(f"{files.display(object)}: what was there before is not kept any more")

    async def _bring_back_the_rest(self, actions: Sequence[ActionView], settings: Settings) -> None:
        from takeback.server.engine.open import open_core

        names = self._core.settings.data / "objects" / "names.key"
        if names.exists():  # under the same key stored objects have the same names
            (settings.data / "objects").mkdir(mode=0o700)
            shutil.copy2(names, settings.data / "objects" / "names.key")
        opened = await open_core(settings)
        try:
            for action in reversed([action for action in actions if action.stands]):
                for system, effects in _by_system(action).items():
                    await self._take_back(opened.core, opened.core.systems[system], effects)
        finally:
            await opened.close()
        for left in settings.data.iterdir():
            if left.name not in EMBEDDED:
                _remove(left)
        _remove(self._sandbox / "keys")

    async def _take_back(self, core: Core, system: TargetSystem, effects: Sequence[Effect]) -> None:
        for name in {name for effect in effects for state in (effect.before, effect.after) for name in state.objects}:
            await core.objects.put(await self._core.objects.get(name))
        real = [effect.reversed() for effect in reversed(effects)]
        wanted = [
            effect.model_copy(update={"object": self.shape.path_in(self._sandbox, effect.object)}) for effect in real
        ]
        try:
            done = await system.swap(wanted)
        except TargetError as error:
            self.notes.append(f"{self._core.display(system.name, real[0].object)}: {error}")
            return
        if isinstance(done, Drifted):
            changed = [
                self._core.display(system.name, there.object)
                for there, effect, state in zip(real, wanted, done.present, strict=True)
                if not state.same(effect.before)
            ]
            self.notes.append(f"{', '.join(changed[:_NAMED]) or 'something'}: {done.why}")


def _by_system(action: ActionView) -> dict[str, list[Effect]]:
    found: dict[str, list[Effect]] = {}
    for effect in action.effects:
        if effect.system not in (FILES_SYSTEM, "outbox"):
            found.setdefault(effect.system, []).append(effect)
    return found


def _file_of(url: str) -> str:
    from takeback.tools.database.sqlite.opening import configured_path

    return configured_path(url)


def _ignored(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name == ".takeback" or is_beside(Path(folder, name))}


def _copy_one(source: str, destination: str, *, follow_symlinks: bool = False) -> str:
    """Copy a file or link; of a SQLite file what is in it at one moment, whoever else has it open."""
    if not is_sqlite(Path(source)):
        if os.path.islink(source) or os.path.isfile(source):
            shutil.copy2(source, destination, follow_symlinks=False)
        return destination
    plain = apsw.Connection(source, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        copy = apsw.Connection(destination)
        try:
            with copy.backup("main", plain, "main") as backup:
                while not backup.done:
                    backup.step(1000)
        finally:
            copy.close()
    finally:
        plain.close()
    shutil.copystat(source, destination)
    return destination


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    elif os.path.lexists(path):
        path.unlink()
        for ending in BESIDE:
            path.with_name(path.name + ending).unlink(missing_ok=True)
