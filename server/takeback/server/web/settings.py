"""`[web]`: the local page."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class WebSettings(BaseModel):
    """How the page is served. It listens on this machine only, whatever is set."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    port: int = Field(default=0, ge=0, le=65535, description="Port of the page; 0 keeps the one it had before.")
    on_demand: bool = Field(default=True, description="Whether serve opens the page when something waits for a person.")
    idle_seconds: float = Field(
        default=600, gt=0, description="A page that was opened on demand ends after so long unused."
    )
