"""The drill: build the sandbox, rehearse in it undisturbed, then once for each point at which the process is killed."""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

from takeback.server.drill.calls import LeftOut
from takeback.server.drill.worker import Proof, Task, in_process
from takeback.server.engine.answers import EngineError

Progress = Callable[[int, int, str], None]
SECONDS: Final = 120.0
"""A process of the drill that takes longer is ended, and that is a difference."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A point at which the process was killed, and what was wrong afterwards."""

    point: str
    wrong: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """One tool in a drill."""

    tool: str
    calls: int
    proven: int
    """Calls whose inverse led back to exactly the same world."""
    left_out: int
    seconds: float | None
    """Median time of an undo."""


@dataclass(frozen=True, slots=True)
class Drilled:
    """What a drill showed."""

    proofs: tuple[Proof, ...]
    left_out: tuple[LeftOut, ...]
    kills: tuple[Kill, ...]
    notes: tuple[str, ...] = ()
    """What of the run's beginning could not be had."""

    @property
    def differences(self) -> list[str]:
        """Everything that was not as it should be."""
        found = [f"{proof.tool} ({proof.action_id}): {proof.different}" for proof in self.proofs if proof.different]
        return found + [f"killed {kill.point}: {why}" for kill in self.kills for why in kill.wrong]

    @property
    def coverage(self) -> list[Coverage]:
        """By tool, in the order of the first call."""
        tools = dict.fromkeys([*(proof.tool for proof in self.proofs), *(left.tool for left in self.left_out)])
        return [self._covered(tool) for tool in tools]

    def _covered(self, tool: str) -> Coverage:
        proofs = [proof for proof in self.proofs if proof.tool == tool]
        proven = [proof for proof in proofs if not proof.refused and not proof.different]
        left = [each for each in self.left_out if each.tool == tool]
        return Coverage(
            tool=tool,
            calls=len(proofs) + len(left),
            proven=len(proven),
            left_out=len(left) + sum(bool(proof.refused) for proof in proofs),
            seconds=median(proof.seconds for proof in proven) if proven else None,
        )


def drill(
    task: Task, left_out: Sequence[LeftOut], notes: Sequence[str], *, every: int = 1, progress: Progress
) -> Drilled:
    """Rehearse. Blocks; makes many short-lived processes.

    :param task: its sandbox is the beginning, and stays untouched.
    :param every: kill at each n-th point only.
    """
    processes = Processes()
    # in the order of the calls; they were taken back the last one first
    order = {call.action_id: number for number, call in enumerate(task.calls)}
    proofs: list[Proof] = sorted(
        processes.run("one by one", _copy(task, "alone")), key=lambda proof: order[proof.action_id]
    )
    refused = {proof.action_id for proof in proofs if proof.refused}
    task = replace(task, calls=tuple(call for call in task.calls if call.action_id not in refused))
    kills: list[Kill] = []
    if task.calls:
        points: list[str] = processes.run("there and back", _copy(task, "whole"))
        chosen = range(0, len(points), every)
        for done, at in enumerate(chosen):
            progress(done, len(chosen), f"killed {points[at]}")
            kills.append(_kill(processes, task, at, points[at]))
        progress(len(chosen), len(chosen), "over")
    return Drilled(tuple(proofs), tuple(left_out), tuple(kills), tuple(notes))


def _kill(processes: Processes, task: Task, at: int, point: str) -> Kill:
    case = _copy(task, f"kill-{at}")
    try:
        if processes.dies("there and back", case, at):
            return Kill(point, tuple(processes.run("look", case)))
        return Kill(point, ("the process was not there any more to be killed",))
    except EngineError as error:
        return Kill(point, (error.message,))
    finally:
        shutil.rmtree(case.sandbox, ignore_errors=True)


def _copy(task: Task, name: str) -> Task:
    sandbox = task.sandbox.with_name(name)
    shutil.copytree(task.sandbox, sandbox, symlinks=True)
    return replace(task, sandbox=sandbox)


class Processes:
    """Starts the processes. Where it can be had, from a server that has everything imported already."""

    def __init__(self) -> None:
        ways = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in ways else "spawn")
        if "forkserver" in ways:
            self._context.set_forkserver_preload(["takeback.server.drill.worker"])

    def run(self, what: str, task: Task) -> Any:
        """Do it, and wait for what came of it.

        :raises EngineError: the process failed.
        """
        told = self._told(what, task, None)
        if told is None:
            raise EngineError("failed", f"The rehearsal ({what}) did not come to its end.", "See what it wrote above.")
        return told[0]

    def dies(self, what: str, task: Task, at: int) -> bool:
        """Let it die at a point; whether it did."""
        return self._told(what, task, at) is None

    def _told(self, what: str, task: Task, at: int | None) -> list[Any] | None:
        receiving: Connection
        receiving, sending = self._context.Pipe(duplex=False)
        process = self._context.Process(target=in_process, args=(what, task, at, sending), daemon=True)
        process.start()
        sending.close()
        try:
            return [receiving.recv()] if receiving.poll(SECONDS) else None
        except EOFError:
            return None
        finally:
            receiving.close()
            process.join(SECONDS)
            if process.is_alive():
                process.kill()
                process.join()


def sandbox_folder(inside: Path) -> Path:
    """A new folder for the sandboxes of one drill."""
    inside.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="drill-", dir=inside))
