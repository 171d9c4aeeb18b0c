"""`[calendars.NAME]`: which calendars there are. Light: the server reads it at each start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

DEFAULT: Final = "default"
"""The calendar that is there without any configuration, in the data directory."""
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")


class CalendarSettings(BaseModel):
    """One calendar: a folder of .ics files, or the address of a CalDAV collection. Passwords come from the OS keyring or from
    the environment variable that `password_variable` names; they never stand here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = Field(default=None, description="A folder with one .ics file per event (a vdir).")
    url: str | None = Field(default=None, description="A CalDAV collection, https:// (http:// only on this machine).")
    username: str = Field(default="", description="CalDAV: who logs in.")
    password_variable: str = Field(default="", description="CalDAV: environment variable that holds the password.")
    label: str = Field(default="", description="What people call it.")
    labels: dict[str, str] = Field(
        default_factory=dict, description='For rules of the policy, such as { env = "production" }.'
    )
    timezone: str = Field(default="", description="IANA zone of times that name none; by default this machine's.")
    read_only: bool = Field(default=False, description="Nothing may write to it through takeback.")
    mailbox: str = Field(
        default="", description="Mailbox that invitations are sent from; without one no guest is told."
    )
    organizer: str = Field(default="", description="Who invites, Name <address>; by default the mailbox's address.")

    @field_validator("url")
    @classmethod
    def _known(cls, url: str | None) -> str | None:
        if url is None:
            return None
        found = re.fullmatch(r"(https?)://([^/?#]+)(/[^?#]*)?", url)
        if found is None or "@" in found[2]:
            # what stands there may hold a password: it is not repeated
            raise ValueError("it has to be https://host/path/of/the/calendar/, without a user or password in it")
        host = found[2].rpartition(":")[0] if re.search(r":\d+\Z", found[2]) else found[2]
        if found[1] == "http" and host not in ("localhost", "127.0.0.1", "[::1]"):
            raise ValueError("only a server on this machine may be addressed by http://; use https://")
        return url

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.path is not None and self.url is not None:
            raise ValueError("it needs either a path or a url")
        if self.organizer and not self.mailbox:
            raise ValueError("an organizer needs the mailbox that the invitations are sent from")
        return self


def check_names(names: dict[str, CalendarSettings]) -> dict[str, CalendarSettings]:
    """The same, if all are usable as names of objects.

    :raises ValueError: one is not.
    """
    for name, its in names.items():
        if NAME.match(name) is None:
            raise ValueError(f"the name {name!r} has to be a letter, then letters, digits, _ and -")
        if its.path is None and its.url is None and name != DEFAULT:
            raise ValueError(f"{name} needs either a path or a url")
    return names
