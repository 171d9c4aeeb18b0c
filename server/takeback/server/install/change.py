"""What a configuration becomes with takeback in it, and what it would be without. Pure: texts in, texts out.

`Record` is what has to be remembered from the one for the other. As long as nobody else wrote the file, "without" is the very
text from before; afterwards it is the present text without what we put in, and with what we switched off.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, cast

from pydantic import BaseModel, ConfigDict

from takeback.server.engine.answers import EngineError
from takeback.server.install import jsonc
from takeback.server.install.clients import KINDS, Client
from takeback.server.install.files import digest
from takeback.server.install.others import file_servers


class Record(BaseModel):
    """What was done to one file for one entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    before: str | None
    """The text without us; `None`: there was no file."""
    after: str
    """The digest of what was written; empty if another program wrote it."""
    off: dict[str, str] = {}
    """The servers that were switched off: name and definition, character by character."""
    section: bool = False
    """Whether the member that holds the servers was made for us."""
    folders: tuple[str, ...] = ()
    """The folders that were made for the file, the innermost first."""


@dataclass(frozen=True, slots=True)
class Page:
    """A configuration: what it holds, and how its owner reads it."""

    client: Client
    name: str
    """Of our entry in it."""
    path: str
    text: str | None
    servers: Mapping[str, Any]
    record: Record | None

    @classmethod
    def of(cls, client: Client, name: str, path: str, text: str | None, record: Record | None) -> Self:
        """Read it.

        :raises EngineError: it is not what the client could read either, so it is left alone.
        """
        servers: dict[str, Any] = {}
        if not blank(text):
            assert text is not None
            kind = KINDS[client]
            try:
                held: Any = jsonc.read(text, comments=kind.comments).value.get(kind.section, {})
            except jsonc.Unreadable as error:
                raise EngineError(
                    "refused",
                    f"{path} cannot be read ({error}); it was not touched.",
                    "Mend it, and repeat the command.",
                ) from error
            if not isinstance(held, dict):
                raise EngineError(
                    "refused", f"{kind.section!r} in {path} is no object; it was not touched.", "Mend it, and repeat."
                )
            servers = cast("dict[str, Any]", held)
        return cls(client, name, path, text, servers, record)

    @property
    def entry(self) -> Mapping[str, Any] | None:
        """Our entry; empty if it is no object, `None` if there is none."""
        if self.name not in self.servers:
            return None
        value: Any = self.servers[self.name]
        return cast("dict[str, Any]", value) if isinstance(value, dict) else {}

    @property
    def others(self) -> dict[str, str]:
        """Other servers in it that write files."""
        return file_servers({name: server for name, server in self.servers.items() if name != self.name})

    @property
    def untouched(self) -> bool:
        """Whether nobody has written the file since we did."""
        return self.record is not None and self.record.after == digest(self.text)

    def installed(self, wanted: Mapping[str, Any], off: frozenset[str] = frozenset()) -> tuple[str, Record]:
        """The text with the entry and without the servers to be switched off, and what to remember of it.

        What a person added to the entry (variables, a switch of the client's) stays.
        """
        section = (KINDS[self.client].section,)
        comments = KINDS[self.client].comments
        without = self.without()
        text = self.text if self.text is not None and not blank(self.text) else "{}\n"
        gone: dict[str, str] = {}
        for name in sorted(off):
            at = jsonc.find(jsonc.read(text, comments=comments), section)
            if at is not None and name in at.members:
                node = at.members[name].node
                gone[name] = text[node.start : node.end]
                text = jsonc.take(text, section, name, comments=comments)
        had = jsonc.find(jsonc.read(text, comments=comments), section)
        if had is None or not self.entry:
            text = jsonc.put(text, section, self.name, dict(wanted), comments=comments)
        else:
            for key, value in wanted.items():
                if self.entry.get(key) != value:
                    text = jsonc.put(text, (*section, self.name), key, value, comments=comments)
        earlier = self.record or Record(before=None, after="")
        return text, Record(
            before=without,
            after=digest(text),
            off=earlier.off | gone,
            section=earlier.section or had is None,
            folders=earlier.folders,
        )

    def without(self) -> str | None:
        """The text as it would be had takeback never been there; `None`: there would be no file."""
        text, record = self.text, self.record
        if record is not None and self.untouched:
            text, record = record.before, None  # nothing of ours is in that
        if text is None or blank(text):
            return text
        kind = KINDS[self.client]
        section = (kind.section,)
        text = jsonc.take(text, section, self.name, comments=kind.comments)
        if record is None:
            return text
        for name, raw in record.off.items():
            text = jsonc.put_back(text, section, name, raw, comments=kind.comments)
        root = jsonc.read(text, comments=kind.comments)
        if record.section and root.value.get(kind.section) == {} and _empty(text, root.members[kind.section].node):
            text = jsonc.take(text, (), kind.section, comments=kind.comments)
            if record.before is None and text.strip() == "{}":
                return None
        return text


def blank(text: str | None) -> bool:
    """Whether there is nothing in it; clients take that for an empty configuration."""
    return text is None or not text.strip("\ufeff \t\r\n")


def unified(path: str, before: str | None, after: str | None) -> str:
    """The change as a unified diff; empty if there is none."""
    lines = difflib.unified_diff(
        [] if before is None else before.splitlines(),
        [] if after is None else after.splitlines(),
        "/dev/null" if before is None else path,
        "/dev/null" if after is None else path,
        lineterm="",
    )
    return "\n".join(lines)


def _empty(text: str, node: jsonc.Node) -> bool:
    return not text[node.start + 1 : node.end - 1].strip()
