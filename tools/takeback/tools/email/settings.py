"""`[mailboxes.NAME]`: which mailboxes there are. Light: the server reads it at each start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
DEFAULT: Final = "default"
"""The mailbox that is there when none is configured: a Maildir in the data directory."""
_HOST = re.compile(r"(smtps?|imaps?)://(\[[0-9A-Fa-f:]+\]|[A-Za-z0-9.-]+)(?::(\d{1,5}))?/?\Z")

_PORTS: Final = {"smtps": 465, "smtp": 587, "imaps": 993, "imap": 143}
_KEEP_THEMSELVES: Final = ("gmail.com", "googlemail.com", "office365.com", "outlook.com")
"""Domains of SMTP servers that put a copy of what they send into Sent by themselves."""


class MailboxSettings(BaseModel):
    """One mailbox: a Maildir or an account on an IMAP server, and who sends its mail.

    Passwords come from the OS keyring or from the environment variable that `password_variable` names; they never stand here.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path | None = Field(default=None, description="A Maildir; its folders are named as in Maildir++ (.Sent, …).")
    imap: str | None = Field(default=None, description="imaps://host:993, or imap://host:143 (STARTTLS).")
    smtp: str | None = Field(
        default=None,
        description="smtp://host:587 (STARTTLS) or smtps://host:465; without it mail is delivered on this machine only.",
    )
    labels: dict[str, str] = Field(
        default_factory=dict, description='For rules of the policy, such as { env = "production" }.'
    )
    username: str = Field(default="", description="IMAP and SMTP: who logs in; empty: nobody does (SMTP only).")
    password_variable: str = Field(default="", description="Environment variable that holds the password.")
    address: str = Field(default="", description="The address that mail is sent from.")
    label: str = Field(default="", description="What people call it.")
    sent_copy: bool | None = Field(
        default=None,
        description="Put a copy into sent; by default yes, unless the smtp server is known to do so itself.",
    )
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

    @field_validator("smtp", "imap")
    @classmethod
    def _known(cls, url: str | None, info: ValidationInfo) -> str | None:
        # what stands there may hold a password: it is not repeated
        kind = info.field_name
        if url is not None and (server(url) is None or not url.startswith(str(kind))):
            raise ValueError(
                f"it has to be {kind}://host:port or {kind}s://host:port, without a user or password in it"
            )
        return url

    @property
    def keeps_copies(self) -> bool:
        """Whether takeback puts a copy of what was sent into Sent."""
        if self.sent_copy is not None or self.smtp is None or self.imap is None:
            return self.sent_copy is not False
        where = server(self.smtp)
        return where is None or not any(f".{where[1].lower()}".endswith(f".{each}") for each in _KEEP_THEMSELVES)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.imap is None):
            raise ValueError("it needs either a path or imap")
        if self.imap is not None and not self.username:
            raise ValueError("with imap it needs the username that logs in")
        if self.smtp is not None and not self.address:
            raise ValueError("with smtp it needs the address that mail is sent from")
        if len({self.sent, self.trash, self.drafts}) < 3:
            raise ValueError("sent, trash and drafts have to be three folders")
        return self


def server(url: str) -> tuple[bool, str, int] | None:
    """Whether TLS comes first, host and port of an address such as `smtp://mail.example.org:587`; `None`: it is none."""
    found = _HOST.match(url)
    if found is None:
        return None
    direct = found[1].endswith("s")
    port = int(found[3]) if found[3] else _PORTS[found[1]]
    return (direct, found[2].strip("[]"), port) if 0 < port < 65536 else None


def check_names(names: dict[str, MailboxSettings]) -> dict[str, MailboxSettings]:
    """The same, if all are usable as names of objects.

    :raises ValueError: one is not.
    """
    for name in names:
        if NAME.match(name) is None:
            raise ValueError(f"the name {name!r} has to be a letter, then letters, digits, _ and -")
    return names
