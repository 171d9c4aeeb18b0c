"""How far the calls of a tool can be taken back, said once, next to the tool: for people who choose tools and write rules.

It is about the tool, so it names the best and the worst that a call can be, and what decides. How well one very call can be
taken back is known when it is prepared: its preview and its answer say that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

from takeback.journal.states import Reversibility

if TYPE_CHECKING:
    from takeback.tools.contract import AnyTool

Verb = Literal["created", "changed", "deleted"]
ORDER: Final[tuple[Reversibility, ...]] = ("reversible", "compensable", "irreversible")
"""The best first."""
LONGEST: Final = 300
"""Characters of one statement."""


@dataclass(frozen=True, slots=True)
class Recovery:
    """What a tool states. Texts are one line each, in plain words."""

    how: str
    """What is done to take a call back."""
    unless: str = ""
    """Up to when that holds, and what stands in the way."""
    best: Reversibility = "reversible"
    worse: tuple[Reversibility, ...] = ()
    """What else a call can be, the worst last; left out: never worse than the best."""
    worse_if: str = ""
    """What makes a call so; stated if there is such a thing."""
    effects: Mapping[str, tuple[Verb, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """What a rule of the policy meets: by target system (`systems`), what becomes of its objects (`verbs`)."""
    counts: tuple[str, ...] = ()
    """What the tool counts beside its effects, as rules name it in `more_than`."""
    held: bool = False
    """Whether an effect may wait in the outbox before it happens."""

    def problem(self) -> str:
        """Why it cannot be meant as it is stated; empty if it can."""
        for name, text in (("how", self.how), ("unless", self.unless), ("worse_if", self.worse_if)):
            if len(text) > LONGEST or "\n" in text or "|" in text:
                return f"says `{name}` in more than one plain line of {LONGEST} characters"
        if not self.how.strip():
            return "does not say `how` a call is taken back"
        kinds = [ORDER.index(kind) for kind in (self.best, *self.worse)]
        if kinds != sorted(set(kinds)):
            return f"names in `worse` ({', '.join(self.worse)}) what is no worse than its best ({self.best}), or not in order"
        if bool(self.worse) != bool(self.worse_if):
            return "names one of `worse` and `worse_if` without the other"
        return ""


def stated(tool: AnyTool | type[AnyTool]) -> Recovery | None:
    """What a tool states, or what follows from its kind; `None` for what only reads."""
    from takeback.tools.contract import CompensableTool, IrreversibleTool, ReadTool

    kind = tool if isinstance(tool, type) else type(tool)
    if issubclass(kind, ReadTool):
        return None
    if kind.recovery is not None:
        return kind.recovery
    if issubclass(kind, IrreversibleTool):
        return Recovery("nothing: a person is asked first", best="irreversible")
    if issubclass(kind, CompensableTool):
        return Recovery(kind.how, best="compensable", held=kind.hold > 0)
    return Recovery(
        "the earlier state is put back", worse=ORDER[1:], worse_if="the tool says so of a call; its answer tells why"
    )
