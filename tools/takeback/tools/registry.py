"""Which tools there are: families found, opened with their settings, and held to the contract before anything is served.

Only three ways lead in, and each is an allow-list: what is built in, entry points (group `takeback.tools`) that the
configuration names, and Python files that it names. Nothing is imported because it happens to be installed.

Definitions are checked when the registry is made: a mistake is told to the author who starts the server, not to the agent that
calls the tool a week later.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from takeback.checkpoints.objects import ObjectStore
from takeback.tools.calendar.settings import CalendarSettings
from takeback.tools.contract import AnyTool
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.definition import DefinitionError, check_family_name, check_tool
from takeback.tools.email.settings import MailboxSettings
from takeback.tools.outbox.port import SYSTEM as OUTBOX
from takeback.tools.outbox.port import Carrier, Corrector, Outbox
from takeback.tools.recall import Recall, nothing
from takeback.tools.system import TargetSystem

GROUP = "takeback.tools"
"""The entry point group of third-party families."""

BUILT_IN: Mapping[str, str] = MappingProxyType(
    {
        "files": "takeback.tools.files:FilesFamily",
        "database": "takeback.tools.database.family:DatabaseFamily",
        "calendar": "takeback.tools.calendar.family:CalendarFamily",
        "email": "takeback.tools.email.family:EmailFamily",
    }
)
"""The families of this package, in the order in which they are listed. Known here, so that starting needs no search."""


@dataclass(frozen=True)
class Limits:
    """Sizes in bytes beyond which something is refused, or said not to be undoable, before it happens."""

    object_bytes: int
    """The largest before-image that is copied into the object store."""
    trash_bytes: int
    """What a trash may keep alive in all."""
    read_bytes: int
    """The largest content that a read tool returns or an edit loads."""


@dataclass(frozen=True)
class Services:
    """What a family gets from the server when it is opened."""

    data: Path
    """The data directory; a family keeps its own things in a folder of its name below it."""
    objects: ObjectStore
    roots: tuple[Path, ...]
    """The workspace: folders that tools may touch, absolute."""
    outbox: Outbox
    """Where messages wait before they leave the machine."""
    settings: BaseModel
    """An instance of the family's `settings`, from `[tools.settings.NAME]`."""
    limits: Limits
    portable_files: bool
    """Do without Linux's own file calls even where they exist."""
    databases: Mapping[str, DatabaseSettings] = field(default_factory=dict[str, DatabaseSettings])
    """`[databases.NAME]`, by name."""
    calendars: Mapping[str, CalendarSettings] = field(default_factory=dict[str, CalendarSettings])
    """`[calendars.NAME]`, by name."""
    mailboxes: Mapping[str, MailboxSettings] = field(default_factory=dict[str, MailboxSettings])
    """`[mailboxes.NAME]`, by name."""
    recall: Recall = nothing
    """What the journal knows of objects, for a family that keeps records of its own which may be lost."""


class NoSettings(BaseModel):
    """Settings of a family that has none; whatever is set is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Family(ABC):
    """Tools that belong together, with the target systems they work on. Opened once per server."""

    name: ClassVar[str]
    """Unique, lower case; what `[tools] off` and `[tools.settings.NAME]` call it."""
    settings: ClassVar[type[BaseModel]] = NoSettings
    systems: Sequence[TargetSystem] = ()
    tools: Sequence[AnyTool] = ()
    """In the order in which they are listed."""
    carriers: Sequence[Carrier] = ()
    """Who brings out what the tools put into the outbox."""
    correctors: Sequence[Corrector] = ()
    """Who makes up for it, where its carrier cannot know how."""

    @classmethod
    @abstractmethod
    async def open(cls, services: Services) -> Self:
        """Open the systems and make the tools. Touch nothing outside `services.data` and the roots.

        :raises TargetError: a system cannot be opened.
        """

    stages: ClassVar[bool] = False
    """Whether `stage` gives something."""

    def stage(self) -> Sequence[AnyTool]:
        """The family's tools over a view of their own: their acts are seen by their reads, and by nobody else.

        None, where that cannot be had: then a staged run does not see what it has staged there.
        """
        return ()

    async def close(self) -> None:
        """Let go of everything."""


def read_settings(family: type[Family], values: Mapping[str, object]) -> BaseModel:
    """The typed settings of a family.

    :param values: `[tools.settings.NAME]` as it was read.
    :raises DefinitionError: a value is missing, unknown or of the wrong type.
    """
    try:
        return family.settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the section"
        raise DefinitionError(
            f"[tools.settings.{family.name}] is not right: {field}: {first['msg']}.",
            advice=f"It takes: {', '.join(family.settings.model_fields) or 'nothing'}.",
        ) from error


class Registry:
    """The open families, with their systems and tools by name. Checked as a whole when it is made."""

    families: tuple[Family, ...]
    systems: Mapping[str, TargetSystem]
    tools: Mapping[str, AnyTool]
    """By name, in a fixed order: families in theirs, then the tools of each in theirs."""
    carriers: Mapping[str, Carrier]
    correctors: Mapping[str, Corrector]

    def __init__(self, families: Sequence[Family]) -> None:
        """
        :raises DefinitionError: a definition is incomplete, or a name is taken twice.
        """
        systems: dict[str, TargetSystem] = {}
        tools: dict[str, AnyTool] = {}
        carriers: dict[str, Carrier] = {}
        owners: dict[str, str] = {}
        for family in families:
            check_family_name(type(family), family.name)
            if family.name in owners:
                raise DefinitionError(
                    f"There are two families called {family.name!r}.",
                    advice="Rename one of them (a file's family has the file's name).",
                )
            owners[family.name] = family.name
            for system in family.systems:
                if not isinstance(getattr(system, "name", None), str) or not system.name or ":" in system.name:
                    raise DefinitionError(
                        f"A system of the family {family.name!r} has no usable name.",
                        advice='Give the instance a `name`, such as "crm"; it stands in every effect, without colons.',
                    )
                if system.name in systems or system.name == OUTBOX:
                    raise DefinitionError(
                        f"Two target systems are called {system.name!r}.",
                        advice="Names of systems are unique; rename one.",
                    )
                systems[system.name] = system
            for carrier in family.carriers:
                if carrier.name in carriers:
                    raise DefinitionError(
                        f"Two carriers are called {carrier.name!r}.", advice="Names of carriers are unique; rename one."
                    )
                carriers[carrier.name] = carrier
            for tool in family.tools:
                check_tool(tool)
                if tool.name in tools:
                    raise DefinitionError(
                        f"The tool {tool.name!r} of the family {family.name!r} is called like one of the family"
                        f" {tools[tool.name].family!r}.",
                        advice=f"Names of tools are unique: call it {family.name}_{tool.name}, or switch one family off.",
                    )
                tool.family = family.name
                tools[tool.name] = tool
        self.families = tuple(families)
        self.systems, self.tools = MappingProxyType(systems), MappingProxyType(tools)
        self.carriers = MappingProxyType(carriers)
        self.correctors = {each.name: each for family in families for each in family.correctors}

    @property
    def staging(self) -> frozenset[str]:
        """Names of the tools that `stage` gives."""
        return frozenset(tool.name for family in self.families if family.stages for tool in family.tools)

    def stage(self) -> Mapping[str, AnyTool]:
        """A new view for a run that stages: the tools that can show it, by name."""
        return {tool.name: tool for family in self.families for tool in family.stage()}

    @classmethod
    async def open(
        cls,
        services_for: Callable[[type[Family]], Services],
        *,
        modules: Sequence[Path] = (),
        plugins: Sequence[str] = (),
        off: Sequence[str] = (),
    ) -> Self:
        """Find the families, open those that are on, check everything.

        :param services_for: asked once for each family that is opened; `read_settings` makes the settings.
        :param modules: Python files with tools.
        :param plugins: names of entry points that may be loaded.
        :param off: names of families that are neither opened nor listed (built-in ones are then not even imported).
        :raises DefinitionError: a definition is wrong, or a name leads nowhere.
        """
        from takeback.tools.discovery import find_families

        opened: list[Family] = []
        try:
            for family in find_families(modules=modules, plugins=plugins, off=off):
                opened.append(await family.open(services_for(family)))
            return cls(opened)
        except BaseException:
            await _close(opened)
            raise

    async def close(self) -> None:
        """Close the families, the last opened first; every one is tried.

        :raises ExceptionGroup: what went wrong in those that could not be closed.
        """
        errors = await _close(self.families)
        if errors:
            raise ExceptionGroup("families could not be closed", errors)


async def _close(families: Sequence[Family]) -> list[Exception]:
    errors: list[Exception] = []
    for family in reversed(families):
        try:
            await family.close()
        except Exception as error:  # one that cannot close must not keep the others open; all are reported
            errors.append(error)
    return errors
