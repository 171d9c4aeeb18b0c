"""`[mailboxes.NAME]`: which mailboxes there are. Light: the server reads it at each start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
DEFAULT: Final = "default"
"""The mailbox that is there when none is configured: a Maildir in the data directory."""
_HOST = re.compile(r"(smtps?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?/?\Z")


class MailboxSettings(BaseModel):
    """One mailbox: a Maildir by its path, and who sends its mail. Passwords come from the OS keyring or from the environment
    variable that `password_variable` names; they never stand here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = Field(default=None, description="A Maildir; its folders are named as in Maildir++ (.Sent, …).")
    imap: str | None = Field(default=None, description="Not taken yet: an IMAP server.")
    smtp: str | None = Field(
        default=None,
        description="smtp://host:587 (STARTTLS) or smtps://host:465; without it mail is delivered on this machine only.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description='For rules of the policy, such as { env = "production" }.'
    )
    username: str = Field(default="", description="SMTP: who logs in; empty: nobody does.")
    password_variable: str = Field(default="", description="SMTP: environment variable that holds the password.")
    address: str = Field(default="", description="The address that mail is sent from.")
    label: str = Field(default="", description="What people call it.")
    sent: str = Field(default="Sent", min_length=1, description="Folder for copies of what was sent.")
    trash: str = Field(default="Trash", min_length=1, description="Folder that deleted mail is moved to.")
    drafts: str = Field(default="Drafts", min_length=1, description="Folder for drafts.")
    read_only: bool = Field(default=False, description="Nothing may write to it or send from it through takeback.")

    @field_validator("path")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        path = None if path is None else path.expanduser()
        if path is not None and not path.is_absolute():
            raise ValueError("it has to be an absolute path, or one that begins with ~")
        return path

    @field_validator("smtp")
    @classmethod
    def _known(cls, smtp: str | None) -> str | None:
        # what stands there may hold a password: it is not repeated
        if smtp is not None and server(smtp) is None:
            raise ValueError("it has to be smtp://host:port or smtps://host:port, without a user or password in it")
        return smtp

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.imap is not None:
            raise ValueError("mailboxes on IMAP servers are not supported yet; name a Maildir by its path")
        if self.path is None:
            raise ValueError("it needs a path")
        if self.smtp is not None and not self.address:
            raise ValueError("with smtp it needs the address that mail is sent from")
        if len({self.sent, self.trash, self.drafts}) < 3:
            raise ValueError("sent, trash and drafts have to be three folders")
        return self


def server(smtp: str) -> tuple[bool, str, int] | None:
    """Whether TLS comes first, host and port of an address such as `smtp://mail.example.org:587`; `None`: it is none."""
    found = _HOST.match(smtp)
    if found is None:
        return None
    direct = found[1] == "smtps"
    port = int(found[3]) if found[3] else (465 if direct else 587)
    return (direct, found[2].strip("[]"), port) if 0 < port < 65536 else None


def check_names(names: dict[str, MailboxSettings]) -> dict[str, MailboxSettings]:
    """The same, if all are usable as names of objects.

    :raises ValueError: one is not.
    """
    for name in names:
        if NAME.match(name) is None:
            raise ValueError(f"the name {name!r} has to be a letter, then letters, digits, _ and -")
    return names
