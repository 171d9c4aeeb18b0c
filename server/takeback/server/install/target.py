"""One configuration of one client on this machine: look at it, write takeback into it, take it out again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from takeback.server.engine.answers import EngineError
from takeback.server.install.change import Page, Record
from takeback.server.install.claude_code import Binary
from takeback.server.install.clients import KINDS, Client, Machine, config_path, project_path
from takeback.server.install.files import Found, discard, exchange, keep, look
from takeback.server.install.others import extensions
from takeback.server.install.records import forget, recall, remember

_PROGRAMS: Mapping[Client, str] = {"claude-code": "claude", "cursor": "cursor", "vscode": "code"}


@dataclass(frozen=True, slots=True)
class Written:
    """What became of the file."""

    file: Path
    backup: Path | None
    """Where it lies as it was; `None` if there was nothing to keep."""


@dataclass(frozen=True, slots=True)
class Target:
    """A configuration, and who writes it."""

    client: Client
    name: str
    path: Path
    binary: Binary | None = None
    """Claude Code's command, where the file is its own."""

    @classmethod
    def choose(cls, client: Client, name: str, *, project: Path | None = None, file: Path | None = None) -> Self:
        """The user's configuration, a project's, or a file that a person names.

        :raises EngineError: the client knows no configuration of projects.
        """
        if file is not None:
            return cls(client, name, file.expanduser())
        if project is not None:
            path = project_path(client, project)
            if path is None:
                raise EngineError(
                    "usage", f"{KINDS[client].title} has no configuration of projects.", "Leave --project out."
                )
            return cls(client, name, path)
        here = Machine.here()
        path = Path(config_path(client, here.platform, here.home, here.environment, here.packages))
        return cls(client, name, path, Binary.found() if client == "claude-code" else None)

    def present(self) -> bool:
        """Whether there is any sign of the client."""
        program = _PROGRAMS.get(self.client)
        own = self.path.parent if self.client != "claude-code" else self.path.parent / ".claude"
        return self.path.exists() or own.is_dir() or (program is not None and shutil.which(program) is not None)

    def look(self) -> tuple[Found, Page]:
        """What is there.

        :raises EngineError: it cannot be read, so it will not be touched either.
        """
        found = look(self.path)
        record = recall(found.path, self.name)
        return found, Page.of(self.client, self.name, str(found.path), found.text, record)

    def extensions(self) -> dict[str, str]:
        """Claude Desktop's extensions that matter here."""
        return extensions(self.path.parent) if self.client == "claude-desktop" else {}

    def install(self, found: Found, page: Page, wanted: Mapping[str, Any], off: frozenset[str]) -> Written:
        """Write it. What is remembered for the way back is on disk first.

        :raises EngineError: somebody else changed the file meanwhile, or it cannot be written.
        """
        text, record = page.installed(wanted, off)
        if self.binary is not None:
            return self._by_command(self.binary, found, page, wanted, off, record)
        remember(found.path, self.name, record)
        try:
            backup = None if page.untouched else keep(found)  # as it was before us it has been kept
            made = exchange(found, text)
        except BaseException:
            if page.record is None:
                forget(found.path, self.name)
            else:
                remember(found.path, self.name, page.record)
            raise
        if made:
            remember(found.path, self.name, record.model_copy(update={"folders": tuple(map(str, made))}))
        return Written(found.path, backup)

    def _by_command(
        self,
        binary: Binary,
        found: Found,
        page: Page,
        wanted: Mapping[str, Any],
        off: frozenset[str],
        record: Record,
    ) -> Written:
        # the command rewrites more than the entry, so the text from before is never put back whole
        remember(found.path, self.name, record.model_copy(update={"after": ""}))
        backup = keep(found)
        entry = {**(page.entry or {}), **wanted}
        for name in (*sorted(off & set(page.servers)), *([self.name] if page.entry is not None else [])):
            binary.remove(name)
        binary.add(self.name, entry)
        after = self.look()[1]
        if after.entry != entry:
            raise EngineError(
                "refused",
                f"claude mcp add-json wrote something else into {found.path}.",
                "Look with claude mcp get, or name the file with --file.",
            )
        return Written(found.path, backup)

    def remove(self, found: Found, page: Page) -> Written:
        """Take it out, and put back what was switched off for it.

        :raises EngineError: see `install`.
        """
        text = page.without()
        backup = None if page.untouched else keep(found)
        if self.binary is not None:
            if page.entry is not None:
                self.binary.remove(self.name)
            for name, raw in (page.record.off if page.record else {}).items():
                if name not in page.servers:
                    self.binary.add(name, json.loads(raw))
        elif text is None:
            discard(found, tuple(map(Path, page.record.folders if page.record else ())))
        else:
            exchange(found, text)
        forget(found.path, self.name)
        return Written(found.path, backup)
