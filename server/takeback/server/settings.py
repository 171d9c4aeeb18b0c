"""Configuration: one TOML file, environment variables over it, command-line options over both.

Credentials are never read from the file; they come from the OS keyring or the environment. `Settings(...)` takes exactly what
it is given; `load` reads the three sources and remembers where each value came from.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic.fields import FieldInfo

from takeback.server.audit.settings import AuditSettings
from takeback.server.engine.approval_settings import ApprovalSettings
from takeback.server.engine.checks.settings import CheckSettings
from takeback.server.engine.checks.settings import check_names as check_check_names
from takeback.server.engine.triggers.settings import TriggerSettings
from takeback.server.notices.settings import NotifySettings
from takeback.server.roles import RoleSettings
from takeback.server.support import SupportSettings
from takeback.server.web.settings import WebSettings
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.calendar.settings import check_names as check_calendar_names
from takeback.tools.database.settings import DatabaseSettings, check_names
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.email.settings import check_names as check_mailbox_names
from takeback.tools.outbox.settings import OutboxSettings

APP = "takeback"
PREFIX = "TAKEBACK_"
HTTP_TOKEN = "TAKEBACK_HTTP_TOKEN"  # noqa: S105 -- the variable's name
"""The environment variable with the token of `serve --http`. A credential, and so no setting."""
MIB = 1024 * 1024


class SettingsError(Exception):
    """The configuration cannot be used as it stands: one sentence of fact, one of advice."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.message, self.advice = message, advice


class Section(BaseModel):
    """Base of the sections: unknown keys are refused, so that a typing error does not pass for a setting."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkspaceSettings(Section):
    """`[workspace]`: the folders that the file tools may touch."""

    roots: tuple[Path, ...] = Field(default=(), description="Folders that the file tools may touch.")

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


class PolicySettings(Section):
    """`[policy]`: which calls are allowed, asked about, refused."""

    file: Path | None = Field(
        default=None, description="The rules, as YAML (docs/policy.md); without, the default policy."
    )

    @field_validator("file")
    @classmethod
    def _absolute(cls, file: Path | None) -> Path | None:
        return None if file is None else Path(os.path.abspath(file.expanduser()))


class HttpSettings(Section):
    """`[http]`: `takeback serve --http`. Of tokens only the digests stand here, never the tokens."""

    host: str = Field(default="127.0.0.1", description="Address to listen on.")
    port: int = Field(default=8765, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    tokens: dict[str, str] = Field(
        default_factory=dict, description="Per name, the SHA-256 of that person's token (takeback token NAME)."
    )
    issuer: str | None = Field(default=None, description="The OAuth authorization server whose tokens are accepted.")
    resource: str | None = Field(default=None, description="This server's own address, as tokens must name it (aud).")
    required_scopes: tuple[str, ...] = Field(default=(), description="Scopes that each token of the issuer must have.")
    jwks_url: str | None = Field(default=None, description="Where the issuer publishes its keys.")
    jwks_file: Path | None = Field(default=None, description="The issuer's keys as a file, instead of the address.")
    hosts: tuple[str, ...] = Field(default=(), description="Further names under which the server may be addressed.")
    origins: tuple[str, ...] = Field(default=(), description="Web pages (https://host) that may address the server.")
    request_seconds: float = Field(
        default=30, gt=0, description="What a client gets to send a request, or to take a piece of an answer."
    )
    connections: int = Field(default=256, gt=0, description="Connections served at once; more are turned away.")

    @field_validator("tokens")
    @classmethod
    def _digests(cls, tokens: dict[str, str]) -> dict[str, str]:
        for name, digest in tokens.items():
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}", name) is None:
                raise ValueError(f"the name {name!r} has characters that a name cannot have, or is too long")
            if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) is None:
                # what stands there may be a token: it is not repeated
                raise ValueError(f"{name} needs the digest that takeback token {name} prints, not the token")
        if len(set(tokens.values())) < len(tokens):
            raise ValueError("two names have the same token")
        return tokens


class OutboxSection(Section, OutboxSettings):
    """`[outbox]`: how long messages wait before they leave the machine."""


class RolesSection(Section, RoleSettings):
    """`[roles]`: principals who may look at, consent for, and take back what belongs to others."""


class WebSection(Section, WebSettings):
    """`[web]`: the local page."""


class ApprovalSection(Section, ApprovalSettings):
    """`[approvals]`: how often a person may be asked."""


class NotifySection(Section, NotifySettings):
    """`[notify]`: who is told at once of what."""


class AuditSection(Section, AuditSettings):
    """`[audit]`: where every event is streamed to."""


class SupportSection(Section, SupportSettings):
    """`[support]`: who is asked for help."""


class Settings(BaseModel):
    """Everything that can be set. `Settings.load` reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    workspace: WorkspaceSettings = WorkspaceSettings()
    limits: LimitSettings = LimitSettings()
    tools: ToolSettings = ToolSettings()
    http: HttpSettings = HttpSettings()
    policy: PolicySettings = PolicySettings()
    roles: RolesSection = RolesSection()
    outbox: OutboxSection = OutboxSection()
    web: WebSection = WebSection()
    approvals: ApprovalSection = ApprovalSection()
    notify: NotifySection = NotifySection()
    audit: AuditSection = AuditSection()
    support: SupportSection = SupportSection()
    databases: dict[str, DatabaseSettings] = Field(
        default_factory=dict, description="Per name, a database: its url, and how it is used ([databases.NAME])."
    )
    calendars: dict[str, CalendarSettings] = Field(
        default_factory=dict,
        description="Per name, a calendar: a folder, or a CalDAV address ([calendars.NAME]).",
    )
    mailboxes: dict[str, MailboxSettings] = Field(
        default_factory=dict,
        description="Per name, a mailbox: a Maildir or an IMAP account, and who sends its mail ([mailboxes.NAME]).",
    )
    triggers: TriggerSettings = TriggerSettings()
    checks: tuple[CheckSettings, ...] = Field(
        default=(), description="What has to hold of what is changed ([[checks]])."
    )
    data: Path = Field(default_factory=lambda: Path(platformdirs.user_data_dir(APP)), description="The data directory.")
    key_file: Path | None = Field(
        default=None, description="The chain's key; by default below the user's configuration folder."
    )
    anchor_file: Path | None = Field(
        default=None, description="Where heads are anchored; by default below the user's state folder."
    )
    portable_files: bool = Field(default=False, description="Do without openat2 and renameat2 even where they exist.")

    @field_validator("databases")
    @classmethod
    def _named(cls, databases: dict[str, DatabaseSettings]) -> dict[str, DatabaseSettings]:
        return check_names(databases)

    @field_validator("checks")
    @classmethod
    def _checks_named(cls, checks: tuple[CheckSettings, ...]) -> tuple[CheckSettings, ...]:
        return check_check_names(checks)

    @field_validator("calendars")
    @classmethod
    def _calendars_named(cls, calendars: dict[str, CalendarSettings]) -> dict[str, CalendarSettings]:
        return check_calendar_names(calendars)

    @field_validator("mailboxes")
    @classmethod
    def _mailboxes_named(cls, mailboxes: dict[str, MailboxSettings]) -> dict[str, MailboxSettings]:
        return check_mailbox_names(mailboxes)

    @field_validator("data")
    @classmethod
    def _absolute(cls, data: Path) -> Path:
        return Path(os.path.abspath(data.expanduser()))

    @field_validator("key_file", "anchor_file")
    @classmethod
    def _absolute_if_set(cls, path: Path | None) -> Path | None:
        return None if path is None else Path(os.path.abspath(path.expanduser()))

    @classmethod
    def load(cls, config: Path | None = None, *, roots: Sequence[Path] = (), data: Path | None = None) -> Self:
        """`load` without the origins.

        :raises SettingsError:
        """
        return cls.model_validate(load(config, roots=roots, data=data).settings.model_dump())


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and where each of them came from."""

    settings: Settings
    origins: Mapping[str, str]
    """By dotted key: "default", the file's path, the variable's name or the option. Every key is there."""
    file: Path | None
    """The TOML file that was read, if any."""
    unknown_variables: tuple[str, ...]
    """Variables that begin with TAKEBACK_ and mean nothing: most likely typing errors."""


def default_file() -> Path:
    """Where the configuration is looked for when nobody names a file."""
    return Path(platformdirs.user_config_dir(APP)) / "config.toml"


def load(
    config: Path | None = None,
    *,
    roots: Sequence[Path] = (),
    data: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Loaded:
    """Read the configuration: options over environment over file over defaults.

    Paths in the file are relative to the file's folder; all others to the working directory.

    :param config: the TOML file (option `--config`); else `TAKEBACK_CONFIG`; else the default place, if there is a file.
    :raises SettingsError: a file that cannot be read, broken TOML, an unknown key, a value of the wrong kind.
    """
    variables = os.environ if environment is None else environment
    file = _file(config, variables)
    values: dict[str, Any] = {}
    origins = {key: "default" for key, _ in _fields(Settings)}
    for key, value in _from_file(file) if file else ():
        values[key], origins[key] = value, str(file)
    found, unknown = _from_environment(variables)
    for key, (name, value) in found.items():
        values[key], origins[key] = value, name
    if roots:
        values["workspace.roots"], origins["workspace.roots"] = tuple(roots), "--workspace"
    if data is not None:
        values["data"], origins["data"] = data, "--data"
    try:
        settings = Settings.model_validate(_nested(values))
    except ValidationError as error:
        raise _invalid(error, origins) from error
    return Loaded(settings, origins, file, unknown)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that is not a section, by dotted key."""
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _fields(kind, f"{prefix}{name}.")
        else:
            yield prefix + name, field


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in values.items():
        *sections, last = key.split(".")
        inner = tree
        for section in sections:
            inner = inner.setdefault(section, {})
        inner[last] = value
    return tree


def _file(config: Path | None, variables: Mapping[str, str]) -> Path | None:
    named = config or (Path(variables[PREFIX + "CONFIG"]) if variables.get(PREFIX + "CONFIG") else None)
    if named is not None:
        return Path(os.path.abspath(named.expanduser()))
    file = default_file()
    return file if file.is_file() else None


def _from_file(file: Path) -> Iterator[tuple[str, Any]]:
    import tomllib  # most servers start without a file

    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise SettingsError(
            f"There is no configuration file {file}.", "Name an existing file with --config, or leave the option out."
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(
            f"The configuration file {file} cannot be read: {why}.", "Mend it, or name another with --config."
        ) from error
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = f"(at line {text.count(chr(10)) + 1}, the end of the file)"
        why = str(error).replace("(at end of document)", where)
        raise SettingsError(f"The configuration file {file} is not valid TOML: {why}.", "Correct that line.") from error
    known = dict(_fields(Settings))
    for key, value in _flattened(tree, _sections(known)):
        if key not in known:
            raise SettingsError(f"The configuration file {file} sets {key}, which is no setting.", _meant(key, known))
        yield key, _beside(file, known[key], value)


def _sections(known: Mapping[str, FieldInfo]) -> set[str]:
    """Everything that settings stand in, such as `triggers` and `triggers.step_count`."""
    parts = [key.split(".")[:-1] for key in known]
    return {".".join(part[:end]) for part in parts for end in range(1, len(part) + 1)}


def _flattened(tree: Mapping[str, Any], sections: set[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        key = prefix + name
        if key in sections and isinstance(value, dict):
            yield from _flattened(value, sections, f"{key}.")  # pyright: ignore[reportUnknownArgumentType] -- TOML
        else:
            yield key, value


def _beside(file: Path, field: FieldInfo, value: Any) -> Any:
    """Relative paths in the file mean: relative to the file. Clients start servers in folders of their own choice."""
    if "Path" not in str(field.annotation):
        return value
    if isinstance(value, str):
        return file.parent / Path(value).expanduser()
    if isinstance(value, list):
        items: list[Any] = value  # pyright: ignore[reportUnknownVariableType] -- TOML
        return [file.parent / Path(item).expanduser() if isinstance(item, str) else item for item in items]
    return value


def _from_environment(variables: Mapping[str, str]) -> tuple[dict[str, tuple[str, Any]], tuple[str, ...]]:
    """`TAKEBACK_LIMITS__KEEP_DAYS=7` is `[limits] keep_days = 7`. Lists: as the system's PATH is written, or JSON."""
    known = dict(_fields(Settings))
    sections = _sections(known)
    found: dict[str, tuple[str, Any]] = {}
    unknown: list[str] = []
    for name in sorted(variables):
        if not name.startswith(PREFIX) or name in (PREFIX + "CONFIG", HTTP_TOKEN):
            continue
        key = name.removeprefix(PREFIX).lower().replace("__", ".")
        if key in known:
            found[key] = (name, _parsed(name, known[key], variables[name]))
        elif key.partition(".")[0] in sections and "." in key:
            raise SettingsError(
                f"The environment variable {name} names no setting.", _meant(key, known, as_variable=True)
            )
        else:
            unknown.append(name)
    return found, tuple(unknown)


def _parsed(name: str, field: FieldInfo, text: str) -> Any:
    kind = str(field.annotation)
    if kind.startswith("tuple") and not text.lstrip().startswith("["):
        return [part for part in text.split(os.pathsep if "Path" in kind else ",") if part]
    if kind.startswith(("tuple", "dict")):
        try:
            return json.loads(text)
        except ValueError as error:
            raise SettingsError(
                f"The environment variable {name} is not valid JSON.", "Write it as JSON, or set it in the file."
            ) from error
    return text


def _meant(key: str, known: Mapping[str, FieldInfo], *, as_variable: bool = False) -> str:
    import difflib

    close = difflib.get_close_matches(key, known, n=1)
    if not close:
        return "Remove it; docs/configuration.md lists every setting."
    return f"Did you mean {PREFIX + close[0].upper().replace('.', '__') if as_variable else close[0]}?"


def _invalid(error: ValidationError, origins: Mapping[str, str]) -> SettingsError:
    first = error.errors(include_url=False)[0]
    parts = [str(part) for part in first["loc"]]
    key = next(
        (".".join(parts[:end]) for end in range(len(parts), 0, -1) if ".".join(parts[:end]) in origins), ".".join(parts)
    )
    why = first["msg"][:1].lower() + first["msg"][1:]
    return SettingsError(
        f"The setting {key} (from {origins.get(key, 'the configuration')}) has a value that does not fit: {why}.",
        "Correct the value; docs/configuration.md says what each setting means.",
    )
