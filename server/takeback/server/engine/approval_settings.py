"""`[approvals]`: how often a person may be asked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ApprovalSettings(BaseModel):
    """Who is asked too often stops reading. What is over the limit is refused, with the advice to make a plan of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_per_minute: int = Field(default=10, ge=1, description="Questions that one run may put to a person in a minute.")
    person_per_minute: int = Field(
        default=20, ge=1, description="Questions that all runs of a person may put to them in a minute."
    )
