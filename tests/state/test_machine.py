"""Anything in any order: calls, a person's edits, deaths, rollbacks of every kind, redos, resolutions, collections.

`TAKEBACK_STATE_STEPS` says how many steps in all, in histories of up to 40; every core takes a share (5,000 every day,
100,000 in CI). Under `make soak` they are a million (`TAKEBACK_STATE_SOAK_STEPS`), and other ones each time.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from tests.server.engine.bench import ALICE
from tests.state.model import NAMES, Model

STEPS = int(os.environ.get("TAKEBACK_STATE_STEPS", "5000"))
SOAK_STEPS = int(os.environ.get("TAKEBACK_STATE_SOAK_STEPS", "1000000"))
LONGEST = 40
AT_ONCE = 50
"""Histories between two looks at how many steps there have been."""

names = st.sampled_from(NAMES)
contents = st.sampled_from(["", "x\n", "one\ntwo\nthree\n", "large"])


class Anything(RuleBasedStateMachine):
    """Rules are what may happen; the model says what then has to be so."""

    model: Model
    done = 0
    """Steps of all histories in this process: rules that ran, each followed by the invariant."""

    @initialize(portable=st.booleans(), seed=st.integers(0, 1000), threads=st.sampled_from([False] * 15 + [True]))
    def begin(self, portable: bool, seed: int, threads: bool) -> None:
        self.model = Model(portable=portable, seed=seed, threads=threads)
        Anything.done -= 1  # the invariant looks once before the first rule

    @rule(name=names, content=contents)
    def write(self, name: str, content: str) -> None:
        self.model.call("write_file", path=name, content="y" * 40_000 if content == "large" else content)

    @rule(name=names, line=st.integers(0, 8))
    def edit(self, name: str, line: int) -> None:
        edits = [{"old_text": f"line {line} of", "new_text": f"LINE {line} OF"}]
        self.model.call("edit_file", path=name, edits=edits)

    @rule(source=names, destination=names, overwrite=st.booleans(), tool=st.sampled_from(["move_file", "copy_file"]))
    def carry(self, tool: str, source: str, destination: str, overwrite: bool) -> None:
        self.model.call(tool, source=source, destination=destination, overwrite=overwrite)

    @rule(name=st.sampled_from([*NAMES, "d", "d/e"]))
    def delete(self, name: str) -> None:
        self.model.call("delete_file", path=name, recursive=True)

    @rule(name=st.sampled_from(["d", "g/h", "b"]))
    def make_folder(self, name: str) -> None:
        self.model.call("create_directory", path=name)

    @rule(how=st.sampled_from(["replace", "append", "in place", "delete"]), name=names)
    def person(self, how: str, name: str) -> None:
        self.model.person(how, name)

    @rule()
    def new_run(self) -> None:
        self.model.begin()

    @rule()
    def roll_back(self) -> None:
        model = self.model
        if model.undo(lambda: model.bench.back(run_id=model.run), whole=True):
            model.begin()

    @rule(n=st.integers(1, 3))
    def roll_back_the_last(self, n: int) -> None:
        model = self.model
        model.undo(lambda: model.bench.back(run_id=model.run, last=n))

    @rule()
    def roll_back_to_a_checkpoint(self) -> None:
        self.model.to_a_checkpoint()

    @rule()
    def roll_back_chosen_actions(self) -> None:
        self.model.chosen()

    @rule()
    def redo(self) -> None:
        model = self.model
        if model.rollback is not None:
            rollback = model.rollback
            model.disturbed = True
            answer = model.undo(lambda: model.bench.engine.redo(ALICE, rollback))
            if answer is not None:
                model.begin()

    @rule(choice=st.sampled_from(["theirs", "ours", "content", "beside"]))
    def resolve(self, choice: Any) -> None:
        self.model.resolve(choice)

    @rule(name=names)
    def restore_version(self, name: str) -> None:
        self.model.restore_a_version(name)

    @rule(at=st.integers(1, 6), name=names)
    def die_in_a_call(self, at: int, name: str) -> None:
        model = self.model
        model.crash(at, lambda bench: bench.call("write_file", model.run, path=name, content=f"dying {at}\n"))

    @rule(at=st.integers(1, 14))
    def die_in_a_rollback(self, at: int) -> None:
        model = self.model
        model.crash(at, lambda bench: bench.back(run_id=model.run), alone=False)
        model.begin()

    @rule()
    def restart(self) -> None:
        self.model.restart()

    @rule()
    def collect(self) -> None:
        self.model.garbage()

    @invariant()
    def nothing_is_left_open(self) -> None:
        if hasattr(self, "model"):
            Anything.done += 1
            self.model.nothing_is_left_open()
            self.model.nothing_of_a_persons_is_lost()

    def teardown(self) -> None:
        if hasattr(self, "model"):
            try:
                self.model.all_is_sound()
            finally:
                self.model.close()


def run(steps: int, chance: int) -> None:
    """At least so many steps; the same `chance`, the same histories."""
    logging.disable(logging.WARNING)  # what was settled after a death is looked at, not read
    while Anything.done < steps:
        seed(chance)(Anything)
        run_state_machine_as_test(
            Anything,
            settings=settings(
                max_examples=AT_ONCE,
                stateful_step_count=LONGEST,
                deadline=None,
                database=None,
                # a history that fails is shortened where somebody is waiting for it: TAKEBACK_STATE_SHRINK=1
                phases=[Phase.generate, Phase.shrink] if os.environ.get("TAKEBACK_STATE_SHRINK") else [Phase.generate],
                print_blob=True,
                suppress_health_check=list(HealthCheck),
            ),
        )
        chance += 1
    print(Anything.done)


def run_on_every_core(steps: int, chance: int) -> int:
    """A share in a process for each core; how many steps that were in all."""
    cores = os.cpu_count() or 1
    shares = [
        subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import run; run({steps // cores + 1}, {chance + 1000 * core})"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "PYTHONPATH": "."},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for core in range(cores)
    ]
    done, wrong = 0, ""
    for share in shares:
        told = share.communicate()[0]
        if share.returncode:
            wrong += told
        else:
            done += int(told.split()[-1])
    assert not wrong, wrong
    return done


def test_whatever_happens_nothing_foreign_is_lost_and_every_report_is_true() -> None:
    assert run_on_every_core(STEPS, 0) >= STEPS


@pytest.mark.soak
def test_whatever_happens_in_other_histories_each_time() -> None:
    chance = secrets.randbelow(10**9)
    print(f"histories from {chance}")
    assert run_on_every_core(SOAK_STEPS, chance) >= SOAK_STEPS
