"""`[audit]`: where every event is streamed to. Light: the server reads it at each start."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator

from takeback.server.notices.settings import WebhookSettings


class AuditSettings(BaseModel):
    """A file, a webhook, or both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = Field(default=None, description="One JSON line for each event is appended here.")
    fsync: bool = Field(default=True, description="Whether lines are on the disk before they count as written.")
    url: str = Field(default="", description="Where lines are posted to, signed as webhooks are.")
    secret_variable: str = Field(default="", description="Environment variable that holds the secret of the url.")

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        return None if file is None else Path(os.path.abspath(file.expanduser()))

    @field_validator("url")
    @classmethod
    def _safe(cls, url: str) -> str:
        return WebhookSettings(url=url).url if url else url

    @property
    def configured(self) -> bool:
        """Whether anything is streamed."""
        return self.file is not None or bool(self.url)
