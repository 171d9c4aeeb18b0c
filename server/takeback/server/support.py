"""`[support]`: who is asked for help with a run."""

from __future__ import annotations

import re

from pydantic import BaseModel, ConfigDict, Field, field_validator


class SupportSettings(BaseModel):
    """Who gets a redacted bundle, if somebody decides to send one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str = Field(default="", description="A mail address; takeback support offers to mail a bundle there.")

    @field_validator("address")
    @classmethod
    def _one(cls, address: str) -> str:
        if address and re.fullmatch(r"[^@\s<>,;]{1,64}@[^@\s<>,;]{1,255}", address) is None:
            raise ValueError("it has to be one mail address, such as help@example.org")
        return address
