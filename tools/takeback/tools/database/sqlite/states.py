"""States of what is not a row: counters, databases, and what was not kept."""

from __future__ import annotations

import json

from pydantic import JsonValue

from takeback.journal.states import State


def counter_state(value: JsonValue) -> State:
    """A counter that has this value."""
    text = json.dumps(value, sort_keys=True)
    return State(digest=f"sequence:{text}", kind="sequence", ref={"value": value})


def whole_state(digest: str, image: tuple[str, ...], size: int | None) -> State:
    """A database.

    :param image: where its image is kept; empty if it is not.
    """
    return State(digest=digest, kind="database", content=digest, size=size, objects=image, ref={"image": bool(image)})


def unkept_state(side: str) -> State:
    """A side of a change of which nothing was kept: comparable with nothing."""
    return State(digest=f"unkept:{side}", kind="rows", ref={"unkept": True})
