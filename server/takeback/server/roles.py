"""`[roles]`: who may look at, consent for, and take back what belongs to somebody else. On one's own machine nobody needs one.

Roles count at a person's own doors only, the command line and the page: an agent that works under an operator's name sees and
takes back its own principal's runs, like any other. Each use of a role on somebody else's run is an event of that run.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

Role = Literal["auditor", "approver", "operator"]
Purpose = Literal["look", "decide", "approve"]
"""To read a run; to take it back, contain, release or recover it; to answer its questions."""

_MAY: Final[dict[Role, frozenset[Purpose]]] = {
    "auditor": frozenset({"look"}),
    "approver": frozenset({"look", "approve"}),
    "operator": frozenset({"look", "decide", "approve"}),
}


class RoleSettings(BaseModel):
    """Principals by role, such as `local:ada`, `token:ada` or `oauth:…`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    auditors: tuple[str, ...] = Field(default=(), description="May look at everybody's runs.")
    approvers: tuple[str, ...] = Field(default=(), description="May also answer everybody's questions.")
    operators: tuple[str, ...] = Field(
        default=(),
        description="May also take back, contain and release everybody's runs, and hold tools, systems and principals.",
    )

    @property
    def given(self) -> bool:
        """Whether anybody has a role: several people share the data directory, and it matters who decides for others."""
        return bool(self.auditors or self.approvers or self.operators)

    def role_for(self, principal: str, purpose: Purpose) -> Role | None:
        """The least role of a principal that allows something on somebody else's runs, if any does."""
        held: dict[Role, tuple[str, ...]] = {
            "auditor": self.auditors,
            "approver": self.approvers,
            "operator": self.operators,
        }
        for role, principals in held.items():
            if principal in principals and purpose in _MAY[role]:
                return role
        return None
