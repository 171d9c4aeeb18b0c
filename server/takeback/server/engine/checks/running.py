"""Running checks: right after an act on what it left, and all together when somebody wants to know where things stand."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

import anyio
import anyio.to_thread

from takeback.journal.events import Caller
from takeback.journal.states import Effect, State
from takeback.server.engine.calls import NO_ACTION, NO_RUN, no_progress
from takeback.server.engine.checks.parsers import fault_of
from takeback.server.engine.checks.settings import CheckSettings, OnFail, Parser
from takeback.server.engine.core import Core
from takeback.server.engine.faults import fault
from takeback.server.engine.holds import inside
from takeback.server.engine.report import shown
from takeback.server.engine.work import without_secrets
from takeback.tools.contract import CallContext, ReadTool

MOST_BYTES: Final = 4 * 1024 * 1024
"""What is larger is not parsed, and said not to have been."""
TAIL: Final = 300
"""Of what a command says so much is told."""
_INHERITED: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TEMP", "SYSTEMROOT", "USERPROFILE", "VIRTUAL_ENV")
"""All that a command gets of the server's environment, where passwords may stand."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one check."""

    check: str
    object: str
    """As people call it; empty if the check is about the whole."""
    status: Literal["holds", "fails", "unknown"]
    why: str
    on_fail: OnFail

    @property
    def sentence(self) -> str:
        """For people."""
        about = f" of {shown(self.object)}" if self.object else ""
        match self.status:
            case "holds":
                return f"The check {self.check}{about} holds."
            case "fails":
                return f"The check {self.check}{about} failed: {self.why}."
            case "unknown":
                return f"The check {self.check}{about} could not be made, so nobody knows whether it holds: {self.why}."


@dataclass(frozen=True, slots=True)
class _Unknown(Exception):
    why: str


class Checks:
    """For one engine."""

    def __init__(self, core: Core) -> None:
        self._core, self._checks = core, core.settings.checks

    async def after(self, effects: Sequence[Effect], caller: Caller) -> list[Checked]:
        """Those that meet what an act left, and do not hold. What is gone is not looked at by itself."""
        found: list[Checked] = []
        for check in self._checks:
            met = [effect for effect in effects if effect.verb != "unchanged" and self._meets(check, effect)]
            if not check.sees_path:
                # what an act changed may not be told by its effects; who names nothing means every act
                anything = not (effects or check.objects or check.systems or check.database)
                found += [await self._once(check, caller)] if met or anything else []
                continue
            there = [effect for effect in met if not effect.after.absent]
            found += [await self._on(check, effect.system, effect.object, effect.after) for effect in there]
        return [one for one in found if one.status != "holds"]

    async def all(self, caller: Caller, places: Iterable[tuple[str, str]] = ()) -> list[Checked]:
        """Every check: those about the whole once, the others on each of the objects (system, object) that they are about."""
        wanted = list(dict.fromkeys(places))
        found: list[Checked] = []
        for check in self._checks:
            if not check.sees_path:
                found.append(await self._once(check, caller))
                continue
            for system, object in wanted:
                if system not in self._core.systems or not self._about(check, system, object):
                    continue
                try:
                    (state,) = await self._core.systems[system].look([object])
                except Exception as error:  # whatever the system raised, nothing could be seen
                    found.append(self._told(check, system, object, "unknown", fault(error)))
                    continue
                if not state.absent:
                    found.append(await self._on(check, system, object, state))
        return found

    # -- which ------------------------------------------------------------------------------------------------------------

    def _meets(self, check: CheckSettings, effect: Effect) -> bool:
        if check.database is not None and not (check.objects or check.systems):
            place = check.database if check.database in self._core.settings.databases else self._place(check.database)
            return inside(effect, place)
        return self._about(check, effect.system, effect.object)

    def _place(self, database: str) -> str:
        return self._core.resolve(database)

    def _about(self, check: CheckSettings, system: str, object: str) -> bool:
        names = {object, self._core.display(system, object)}
        return (not check.systems or system in check.systems) and (
            not check.objects or any(fnmatchcase(name, pattern) for name in names for pattern in check.objects)
        )

    # -- one --------------------------------------------------------------------------------------------------------------

    async def _on(self, check: CheckSettings, system: str, object: str, state: State) -> Checked:
        try:
            if check.parser is not None:
                why = await self._parsed(check.parser, check.timeout_seconds, system, state)
            else:
                why = await self._ran(check, object)
        except _Unknown as error:
            return self._told(check, system, object, "unknown", error.why)
        return self._told(check, system, object, "holds" if why is None else "fails", why or "")

    async def _once(self, check: CheckSettings, caller: Caller) -> Checked:
        try:
            why = await (self._ran(check, "") if check.command is not None else self._asked(check, caller))
        except _Unknown as error:
            return Checked(check.name, "", "unknown", error.why, check.on_fail)
        return Checked(check.name, "", "holds" if why is None else "fails", why or "", check.on_fail)

    def _told(
        self, check: CheckSettings, system: str, object: str, status: Literal["holds", "fails", "unknown"], why: str
    ) -> Checked:
        return Checked(check.name, self._core.display(system, object), status, why, check.on_fail)

    async def _parsed(self, parser: Parser, seconds: float, system: str, state: State) -> str | None:
        if state.kind in ("directory", "symlink"):
            return None  # no content of its own
        if (state.size or 0) > MOST_BYTES:
            raise _Unknown(f"it is larger than {MOST_BYTES // 1024 // 1024} MiB")
        try:
            content = await self._core.systems[system].read(state)
        except Exception as error:  # whatever the system raised, nothing could be read
            raise _Unknown(fault(error)) from error
        if content is None or len(content) > MOST_BYTES:
            raise _Unknown("its content cannot be read")
        with anyio.move_on_after(seconds):
            return await anyio.to_thread.run_sync(fault_of, parser, content, abandon_on_cancel=True)
        raise _Unknown(f"parsing took longer than {seconds:g} s")

    async def _ran(self, check: CheckSettings, path: str) -> str | None:
        program = [part.replace("{path}", path) for part in check.command or ()]
        environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        try:
            # standard input and output are the server's own, and speak the protocol
            process = await anyio.open_process(
                program,
                stdin=-3,
                stdout=-1,
                stderr=-2,
                cwd=self._folder(path),
                env={**environment, "TAKEBACK_CHECK": check.name},
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise _Unknown(f"{program[0]} cannot be started: {fault(error)}") from error
        said = b""
        code: int | None = None
        try:
            with anyio.move_on_after(check.timeout_seconds):
                assert process.stdout is not None, "it was asked for"
                async for part in process.stdout:
                    said = (said + part)[-4 * TAIL :]
                code = await process.wait()
        finally:
            if code is None:
                _kill(process.pid)
            with anyio.CancelScope(shield=True):
                await process.aclose()
        if code is None:
            raise _Unknown(f"it took longer than {check.timeout_seconds:g} s")
        if code == 0:
            return None
        told = without_secrets({"said": " ".join(said.decode("utf-8", "replace").split())[-TAIL:]})
        words = shown(str(told["said"]))
        return f"{Path(program[0]).name} ended with {code}" + (f": {words}".rstrip(".") if words else "")

    def _folder(self, path: str) -> Path:
        roots = self._core.settings.workspace.roots
        own = [root for root in roots if path and Path(path).is_relative_to(root)]
        return next(iter([*own, *roots]), self._core.settings.data)

    async def _asked(self, check: CheckSettings, caller: Caller) -> str | None:
        tool = self._core.tools.get("query_database")
        if not isinstance(tool, ReadTool):
            raise _Unknown("the database tools are switched off")
        try:
            arguments = tool.arguments.model_validate({"database": check.database, "sql": check.query, "limit": 1})
            context = CallContext(NO_RUN, NO_ACTION, caller, self._core.objects, no_progress)
            with anyio.fail_after(check.timeout_seconds):
                answer = (await tool.run(arguments, context)).model_dump(mode="json")
        except TimeoutError as error:
            raise _Unknown(f"it took longer than {check.timeout_seconds:g} s") from error
        except Exception as error:  # whatever the database raised, it gave no answer
            raise _Unknown(fault(error)) from error
        rows = answer["rows"]
        value = rows[0][0] if rows and rows[0] else None
        if not rows:
            return "the query answered no row"
        return None if value == check.equals else f"the query answered {shown(repr(value))}, not {check.equals!r}"


def _kill(pid: int) -> None:
    with suppress(OSError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)  # it leads a session of its own, so its children go with it
        else:
            os.kill(pid, signal.SIGTERM)
