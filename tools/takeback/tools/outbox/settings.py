"""`[outbox]`: how long messages are held, and what happens when they cannot go out. Light: read at each start."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class OutboxSettings(BaseModel):
    """Seconds, and a count."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hold_seconds: float = Field(default=120, ge=0, description="How long a message waits if nobody says otherwise.")
    minimum_seconds: float = Field(default=0, ge=0, description="No message may wait for less.")
    maximum_seconds: float = Field(default=7 * 86400, ge=0, description="No message may wait for longer.")
    late_seconds: float = Field(
        default=3600, gt=0, description="A message that is later than this is not sent; it waits for a person."
    )
    attempts: int = Field(default=6, ge=1, description="How often a message is tried before it waits for a person.")
    retry_seconds: float = Field(
        default=15, gt=0, description="Pause after the first failed attempt; doubled after each further one."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.minimum_seconds <= self.hold_seconds <= self.maximum_seconds:
            raise ValueError("hold_seconds has to lie between minimum_seconds and maximum_seconds")
        return self
