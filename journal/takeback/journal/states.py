"""What an object looked like: states, and effects as pairs of states.

Values only. How a state is measured and brought back is the business of the target system that owns the object; the
journal keeps what the system hands over and gives it back unchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, JsonValue

Reversibility = Literal["reversible", "compensable", "irreversible"]
"""How well one very call can be taken back: restored exactly, by a follow-up act, or not at all."""


class Frozen(BaseModel):
    """Base of every value that is journaled: immutable, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


M = TypeVar("M", bound=BaseModel)
_put = object.__setattr__


@cache
def _blank(kind: type[BaseModel]) -> dict[str, object]:
    # all fields in their order, because that is the order in which a value is written; frozen, so that one default serves all
    return {name: field.default for name, field in kind.model_fields.items()}


@cache
def _names(kind: type[BaseModel]) -> set[str]:
    # one set for all values of the kind: nobody asks a value which of its fields were given
    return set(kind.model_fields)


def trusted(kind: type[M], /, **values: object) -> M:
    """A value made of parts that are values of the right types already: checking them again costs more than all the rest.

    :param values: fields of the kind; those left out have their defaults, and every other must be there.
    """
    made = object.__new__(kind)
    _put(made, "__dict__", {**_blank(kind), **values})
    _put(made, "__pydantic_fields_set__", _names(kind))
    _put(made, "__pydantic_extra__", None)
    _put(made, "__pydantic_private__", None)
    return made


def altered(value: M, /, **update: object) -> M:
    """The same value with other, trusted, fields."""
    return trusted(type(value), **{**value.__dict__, **update})


class State(Frozen):
    """The whole content of an object at a moment, by its fingerprint. An absent object is a state too.

    Two states are the same if their digests are (see `same`); everything else is help for people and for the system.
    """

    digest: str
    """Fingerprint of everything the system promises to restore, prefixed by how it was taken (`blake3:…`, `stat:…`)."""
    kind: str
    """The system's own word: `absent`, `file`, `directory`, `symlink`, `row`, `event`, `message` …"""
    content: str | None = None
    """Digest of the content alone, without metadata: what reads answer as `digest` and `expected_digest` is held against."""
    size: int | None = None
    """Bytes of content, where that means something."""
    objects: tuple[str, ...] = ()
    """Names in the object store without which the state cannot be brought back. The garbage collector keeps them."""
    ref: dict[str, JsonValue] = {}
    """Where and how the system can bring the state back. Opaque to everybody else."""

    @property
    def absent(self) -> bool:
        """True if this says that there is no such object."""
        return self.kind == "absent"

    def same(self, other: State) -> bool:
        """True if both describe the same content (the reference to the stored image may differ)."""
        return self.digest == other.digest


ABSENT: Final = State(digest="absent", kind="absent")


class Effect(Frozen):
    """One change that an action makes to one object of one target system."""

    system: str
    object: str
    before: State
    after: State

    @property
    def verb(self) -> Literal["created", "changed", "deleted", "unchanged"]:
        """What the effect does to the object, in a word for people."""
        if self.before.same(self.after):
            return "unchanged"
        if self.before.absent:
            return "created"
        if self.after.absent:
            return "deleted"
        return "changed"

    def reversed(self) -> Effect:
        """The effect that takes this one back."""
        return Effect(system=self.system, object=self.object, before=self.after, after=self.before)


class Compensation(Frozen):
    """How an action is taken back, as promised when it was made."""

    strategy: Literal["restore", "compensate", "none"]
    how: str
    """One sentence for people: "put the earlier content back from the trash"."""
    allowed_until: str | None = None
    """RFC 3339, UTC; `None` means as long as retention keeps the images."""


STRATEGIES: Final[Mapping[Reversibility, Literal["restore", "compensate", "none"]]] = {
    "reversible": "restore",
    "compensable": "compensate",
    "irreversible": "none",
}
"""How an act is taken back, by how well it can be."""
