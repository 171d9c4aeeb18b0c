"""`[databases.NAME]`: which databases there are. Light: the server reads it at each start."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")


class DatabaseSettings(BaseModel):
    """One database. Passwords never stand here: they come from the OS keyring, or from what libpq reads (`PGPASSFILE`, …)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="sqlite:///path/to/file.db, or postgresql://user@host:port/name, without a password.")
    label: str = Field(default="", description="What people call it.")
    labels: dict[str, str] = Field(
        default_factory=dict, description='For rules of the policy, such as { env = "production" }.'
    )
    read_only: bool = Field(default=False, description="Nothing may write to it through takeback.")
    capture: Literal["auto", "snapshot", "triggers"] = Field(
        default="auto",
        description="PostgreSQL: how changes are seen; auto takes the triggers of `takeback db prepare` where they are.",
    )
    graveyard: str = Field(default="takeback_graveyard", description="PostgreSQL: schema in which dropped tables wait.")
    superuser: bool = Field(
        default=False, description="PostgreSQL: connect even as a superuser, who can do what nobody can take back."
    )
    statement_seconds: float = Field(default=30, gt=0, description="A statement that takes longer is cancelled.")
    capture_rows: int = Field(
        default=5_000_000,
        gt=0,
        description="A statement that changes more rows cannot be taken back, and is asked about.",
    )
    capture_bytes: int = Field(
        default=512 * 1024 * 1024, gt=0, description="Likewise for the bytes of the kept images."
    )

    @field_validator("url")
    @classmethod
    def _known(cls, url: str) -> str:
        scheme, found, rest = url.partition("://")
        if not found or scheme not in ("sqlite", "postgresql", "postgres"):
            # what stands there may hold a password: it is not repeated
            raise ValueError("it has to begin with sqlite:/// or postgresql://")
        authority = rest.partition("/")[0].rpartition("@")[0]
        if scheme != "sqlite" and (":" in authority or re.search(r"[?&]password=", rest)):
            raise ValueError(
                "it holds a password; leave that out, and store it with takeback connect or in a PGPASSFILE"
            )
        return url


def check_names(names: dict[str, DatabaseSettings]) -> dict[str, DatabaseSettings]:
    """The same, if all are usable as names of objects.

    :raises ValueError: one is not.
    """
    for name in names:
        if NAME.match(name) is None:
            raise ValueError(f"the name {name!r} has to be a letter, then letters, digits, _ and -")
    return names
