"""Every sequence of a few acts over a tiny world, then all of it taken back.

`TAKEBACK_STATE_DEPTH` says how long the sequences are (2 every day; 3 takes a minute or two).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable

import pytest
from tests.server.engine.bench import ALICE
from tests.state.model import Model

DEPTH = int(os.environ.get("TAKEBACK_STATE_DEPTH", "2"))


def _redo(model: Model) -> None:
    if model.rollback is not None:
        rollback = model.rollback
        model.undo(lambda: model.bench.engine.redo(ALICE, rollback))
        model.disturbed = True


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


@pytest.mark.parametrize("portable", [False, True], ids=["fast", "portable"])
@pytest.mark.parametrize("first", ACTS)
def test_every_sequence_is_taken_back(first: str, portable: bool) -> None:
    model = Model(portable=portable)
    try:
        for rest in itertools.product(ACTS, repeat=DEPTH - 1):
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
