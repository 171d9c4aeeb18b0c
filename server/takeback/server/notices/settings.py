"""`[notify]`: who is told, of what. Light: the server reads it at each start."""

from __future__ import annotations

import re
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator

Kind = Literal[
    "run_failed", "run_contained", "run_stalled", "trigger_fired", "rollback_ended", "approval_waits", "mail_waits"
]
"""What people are told of."""
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}\Z")
_URL: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*://.*|\$\{[A-Za-z_][A-Za-z0-9_]*\})\Z", re.DOTALL)


class WebhookSettings(BaseModel):
    """One webhook. Its secret comes from the OS keyring (`takeback notices secret NAME`) or from the environment variable that
    `secret_variable` names; it never stands here."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = Field(description="Where it is posted to: https://…, or http:// on this machine.")
    secret_variable: str = Field(default="", description="Environment variable that holds the secret.")
    events: tuple[Kind, ...] = Field(default=(), description="Only these; empty: what [notify] events says.")

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        if not re.match(r"https://[^/@\s]+(?:/|\Z)|http://(?:localhost|127\.0\.0\.1|\[::1\])(?::\d+)?(?:/|\Z)", url):
            # what stands there may hold a password: it is not repeated
            raise ValueError(
                "it has to be https://host/…, or http:// on this machine, without a user or password in it"
            )
        return url


class NotifySettings(BaseModel):
    """Who is told, and of what."""

    urls: tuple[str, ...] = Field(
        default=(), description="desktop:// or Apprise URLs; ${NAME} stands for an environment variable."
    )
    webhooks: dict[str, WebhookSettings] = Field(
        default_factory=dict, description="Per name, a signed webhook ([notify.webhooks.NAME])."
    )
    events: tuple[Kind, ...] = Field(default=KINDS, description="What is told.")
    attempts: int = Field(default=8, ge=1, le=50, description="How often a notice is tried before it is given up.")
    retry_seconds: float = Field(
        default=5, gt=0, description="Pause after the first failed attempt; doubled each time."
    )

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        if not all(map(_URL.match, urls)):
            raise ValueError(
                "each has to be an address such as desktop:// or mailto://…, or ${NAME} of a variable with one"
            )
        return urls

    @field_validator("webhooks")
    @classmethod
    def _named(cls, webhooks: dict[str, WebhookSettings]) -> dict[str, WebhookSettings]:
        for name in webhooks:
            if NAME.match(name) is None:
                raise ValueError(f"the name {name!r} has to be a letter, then letters, digits, _ and -")
        return webhooks

    @property
    def configured(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self.urls or self.webhooks)


def channel_names(settings: NotifySettings) -> list[str]:
    """What the channels are called, in the order of the settings: never by their address, which may hold a token."""
    names: list[str] = []
    for url in settings.urls:
        scheme = url.partition("://")[0] if "://" in url and not url.startswith("$") else url.strip("${}").lower()
        same = sum(name == scheme or name.startswith(f"{scheme}-") for name in names)
        names.append(f"{scheme}-{same + 1}" if same else scheme)
    return names + [f"webhook:{name}" for name in settings.webhooks]
