"""Configuration: one TOML file, environment variables over it, command-line options over both.

Credentials are never read from the file; they come from the OS keyring or the environment.
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

APP = "takeback"
MIB = 1024 * 1024


class Section(BaseModel):
    """Base of the sections: unknown keys are refused, so that a typing error does not pass for a setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkspaceSettings(Section):
    """`[workspace]`: the folders that the file tools may touch."""

    roots: tuple[Path, ...] = ()

    @field_validator("roots")
    @classmethod
    def _absolute(cls, roots: tuple[Path, ...]) -> tuple[Path, ...]:
        return tuple(Path(os.path.abspath(root.expanduser())) for root in roots)


class LimitSettings(Section):
    """`[limits]`: bytes, counts and seconds."""

    object_bytes: int = Field(default=512 * MIB, description="Largest before-image that is copied into the store.")
    store_bytes: int = Field(default=20 * 1024 * MIB, description="The object store in all.")
    trash_bytes: int = Field(default=50 * 1024 * MIB, description="What the trash may keep alive in all.")
    ballast_bytes: int = Field(default=16 * MIB, description="Set aside so that a full disk can still be rolled back.")
    keep_days: float = Field(default=30, description="Age at which images may be collected.")
    read_bytes: int = Field(default=8 * MIB, description="Largest file that a read tool returns or an edit loads.")
    frame_bytes: int = Field(default=16 * MIB, description="Largest protocol message taken.")
    approval_seconds: float = Field(default=900, description="How long consent can be given.")
    step_seconds: float = Field(default=30, description="Bound of one undo step.")
    default_run_idle_seconds: float = Field(default=1800, description="An idle default run finishes after this.")
    run_idle_seconds: float = Field(default=86400, description="Any other idle run ends or stalls after this.")


class ToolSettings(Section):
    """`[tools]`: whose tools are loaded."""

    modules: tuple[Path, ...] = Field(
        default=(), description="Python files with tools of your own; nothing else is loaded."
    )
    plugins: tuple[str, ...] = Field(default=(), description="Entry points (group takeback.tools) that may be loaded.")
    off: tuple[str, ...] = Field(default=(), description="Families that are not listed (files, …).")
    settings: dict[str, dict[str, object]] = Field(default_factory=dict, description="Per family, its own settings.")


class Settings(BaseSettings):
    """Everything that can be set. `Settings.load` reads it."""

    model_config = SettingsConfigDict(
        env_prefix="TAKEBACK_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        nested_model_default_partial_update=True,
    )

    workspace: WorkspaceSettings = WorkspaceSettings()
    limits: LimitSettings = LimitSettings()
    tools: ToolSettings = ToolSettings()
    data: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir(APP)), description="The data directory.")
    key_file: Path | None = Field(
        default=None, description="The chain's key; by default below the user's configuration folder."
    )
    anchor_file: Path | None = Field(
        default=None, description="Where heads are anchored; by default below the user's state folder."
    )
    portable_files: bool = Field(default=False, description="Do without openat2 and renameat2 even where they exist.")

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        return Path(os.path.abspath(data.expanduser()))

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options over environment over file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)
