"""Every sequence of a few acts over a tiny world, then all of it taken back.

Up to two acts every day; up to three, which takes some minutes, under `make soak`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from tests.server.engine.bench import ALICE
from tests.state.model import Model

EVERY_DAY, SOAKED = 2, 3


def _redo(model: Model) -> None:
    if model.rollback is not None:
        rollback = model.rollback
        model.disturbed = True  # what is restored now is what the agent had made
        model.undo(lambda: model.bench.engine.redo(ALICE, rollback))


ACTS: dict[str, Callable[[Model], object]] = {
    "write a": lambda model: model.call("write_file", path="a", content="new\n"),
    "edit a": lambda model: model.call("edit_file", path="a", edits=[{"old_text": "line 1", "new_text": "LINE 1"}]),
    "write d/e/f": lambda model: model.call("write_file", path="d/e/f", content="deep\n"),
    "delete a": lambda model: model.call("delete_file", path="a"),
    "delete d": lambda model: model.call("delete_file", path="d", recursive=True),
    "move a to b": lambda model: model.call("move_file", source="a", destination="b", overwrite=True),
    "move d": lambda model: model.call("move_file", source="d", destination="g"),
    "copy b to a": lambda model: model.call("copy_file", source="b", destination="a", overwrite=True),
    "a person appends to a": lambda model: model.person("append", "a"),
    "a person replaces d/c": lambda model: model.person("replace", "d/c"),
    "a person deletes a": lambda model: model.person("delete", "a"),
    "dies writing a": lambda model: model.crash(
        3, lambda bench: bench.call("write_file", model.run, path="a", content="dying\n")
    ),
    "take back the last": lambda model: model.undo(lambda: model.bench.back(run_id=model.run, last=1)),
    "redo": _redo,
}


engines = pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
firsts = pytest.mark.parametrize("first", ACTS)


@engines
@firsts
def test_every_sequence_is_taken_back(first: str, portable: bool) -> None:
    every_sequence(first, portable, EVERY_DAY)


@pytest.mark.soak
@engines
@firsts
def test_every_longer_sequence_is_taken_back(first: str, portable: bool) -> None:
    every_sequence(first, portable, SOAKED)


def every_sequence(first: str, portable: bool, longest: int) -> None:
    """All that begin with this act."""
    model = Model(portable=portable)
    try:
        for more in range(longest):
            for rest in itertools.product(ACTS, repeat=more):
                try:
                    sequence(model, (first, *rest))
                except BaseException as error:
                    error.add_note(" → ".join((first, *rest)))
                    raise
        model.all_is_sound()
    finally:
        model.close()


def sequence(model: Model, names: tuple[str, ...]) -> None:
    model.plant()
    model.begin()
    for name in names:
        ACTS[name](model)
        model.nothing_of_a_persons_is_lost()
    model.undo(lambda: model.bench.back(run_id=model.run), whole=True)
    model.nothing_is_left_open()
    model.nothing_of_a_persons_is_lost()
    for item in model.wait(model.bench.engine.open_items(ALICE)):
        model.wait(model.bench.engine.resolve_conflict(ALICE, item.conflict_id, "theirs"))
    model.nothing_of_a_persons_is_lost()
