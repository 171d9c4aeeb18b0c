"""Arguments that do not fit, in words that a model can act on: which ones, why, and what is taken instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydantic import BaseModel, ValidationError

from takeback.server.engine.wording import sentence

MOST: Final = 3
"""Misfits that are named; more are counted."""


def misfits(tool: str, model: type[BaseModel], error: ValidationError, besides: Sequence[str] = ()) -> tuple[str, str]:
    """A fact and an advice from a failed validation, without the rejected values: they may be secret.

    :param besides: what the tool takes beside the fields of its model.
    """
    said: list[str] = []
    found = error.errors(include_url=False, include_input=False)
    for item in found[:MOST]:
        place = sentence(".".join(str(part) for part in item["loc"]))
        match item["type"]:
            case "extra_forbidden":
                said.append(f"there is no argument {place!r}")
            case "missing":
                said.append(f"the argument {place!r} is missing")
            case _:
                why = item["msg"].removeprefix("Value error, ")
                why = f"{why[:1].lower()}{why[1:]}".rstrip(".")
                said.append(f"{place!r}: {why}" if place else why)
    if len(found) > MOST:
        said.append(f"and {len(found) - MOST} more")
    fields = model.model_fields
    needed = [name for name, field in fields.items() if field.is_required()]
    others = [name for name, field in fields.items() if not field.is_required()]
    return f"The arguments of {tool} do not fit: {'; '.join(said)}.", _takes(needed, [*others, *besides])


def _takes(needed: list[str], optional: list[str]) -> str:
    if needed:
        besides = f"; optional are {', '.join(optional)}" if optional else ""
        return f"It takes {', '.join(needed)}{besides}."
    return f"All that it takes is optional: {', '.join(optional)}." if optional else "It takes no arguments."
