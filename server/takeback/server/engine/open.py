"""Opening the data directory and everything that works on it, in the order in which one needs the other."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs

from takeback.checkpoints.ballast import Ballast
from takeback.checkpoints.store import FileObjectStore
from takeback.journal.log import Journal
from takeback.journal.sqlite import SqliteJournal
from takeback.server.engine.core import Core
from takeback.server.engine.held_acts import carriers_of
from takeback.server.engine.locks import Locks
from takeback.server.engine.policy import DefaultPolicy, Policy
from takeback.server.engine.recalled import recalled
from takeback.server.settings import APP, Settings
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.registry import Family, Limits, Registry, Services, read_settings


@dataclass(slots=True)
class Opened:
    """The open parts, to be closed together."""

    core: Core
    journal: Journal
    registry: Registry
    outbox: OutboxSystem

    async def close(self) -> None:
        """Let go, the last opened first."""
        try:
            await self.registry.close()
        finally:
            self.outbox.close()
            await self.journal.close()


def key_file(settings: Settings) -> Path:
    """Where the chain's key lies: outside the data directory."""
    return settings.key_file or Path(platformdirs.user_config_dir(APP)) / "chain.key"


def anchor_file(settings: Settings) -> Path:
    """Where the heads of the chain are anchored: outside the data directory, better still on another disk."""
    return settings.anchor_file or Path(platformdirs.user_state_dir(APP)) / "anchors.log"


def workspace_name(settings: Settings) -> str:
    """What tells one workspace from another in a shared data directory."""
    return os.pathsep.join(str(root) for root in settings.workspace.roots)


def policy_of(settings: Settings) -> Policy:
    """The policy of the configuration's file, or the default.

    :raises SettingsError: the file cannot be used. A server without the rules that were meant for it does not start.
    """
    if settings.policy.file is None:
        return DefaultPolicy()
    from takeback.server.policy_file import read_policy  # most servers start without one

    return read_policy(settings.policy.file)


async def open_core(settings: Settings, *, policy: Policy | None = None) -> Opened:
    """Open journal, object store, families and locks below `settings.data`.

    :raises JournalError, ObjectError, TargetError, DefinitionError, SettingsError, OSError: something cannot be opened; nothing
        stays open.
    """
    policy = policy or policy_of(settings)
    data = settings.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    ballast = Ballast(data / "ballast", settings.limits.ballast_bytes)
    ballast.ensure()
    journal = await SqliteJournal.open(
        data / "journal.db", key_file=key_file(settings), anchor_file=anchor_file(settings)
    )
    outbox: OutboxSystem | None = None
    try:
        limits = settings.limits
        objects = await FileObjectStore.open(
            data / "objects",
            journal,
            object_bytes=limits.object_bytes,
            store_bytes=limits.store_bytes,
            ballast_bytes=limits.ballast_bytes,
        )

        outbox = OutboxSystem(data, objects, settings.outbox)

        def services(family: type[Family]) -> Services:
            return Services(
                data=data,
                objects=objects,
                roots=settings.workspace.roots,
                outbox=outbox,
                settings=read_settings(family, settings.tools.settings.get(family.name, {})),
                limits=Limits(
                    object_bytes=limits.object_bytes, trash_bytes=limits.trash_bytes, read_bytes=limits.read_bytes
                ),
                portable_files=settings.portable_files,
                databases=settings.databases,
                calendars=settings.calendars,
                mailboxes=settings.mailboxes,
                recall=partial(recalled, journal),
            )

        registry = await Registry.open(
            services, modules=settings.tools.modules, plugins=settings.tools.plugins, off=settings.tools.off
        )
    except BaseException:
        if outbox is not None:
            outbox.close()
        await journal.close()
        raise
    core = Core(
        settings=settings,
        journal=journal,
        objects=objects,
        systems={**registry.systems, outbox.name: outbox},
        outbox=outbox,
        tools=registry.tools,
        locks=Locks(data / "locks" / "objects"),
        run_locks=Locks(data / "locks" / "runs"),
        collections=Locks(data / "locks" / "collections"),
        policy=policy,
        ballast=ballast,
        stage=registry.stage,
        staging=registry.staging,
    )
    outbox.carriers = {**registry.carriers, **carriers_of(core)}
    outbox.correctors = registry.correctors
    return Opened(core, journal, registry, outbox)
