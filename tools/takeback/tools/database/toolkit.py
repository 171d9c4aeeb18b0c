"""What the database tools share: which database a name means, bounds, and refusals that a model can act on."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated

from pydantic import Field, JsonValue

from takeback.checkpoints.objects import ObjectError
from takeback.tools.contract import Target, ToolError
from takeback.tools.database.port import Bounds, Cell, Database, Parameters, Statement
from takeback.tools.database.settings import DatabaseSettings
from takeback.tools.database.system import DatabaseSystem
from takeback.tools.database.workspace import Workspace
from takeback.tools.system import TargetError

DatabaseName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4096,
        description="Name of a configured database, or path of a SQLite file in the workspace.",
    ),
]
Sql = Annotated[str, Field(min_length=1, max_length=1_000_000, description="One statement; values as placeholders.")]
Values = Annotated[
    list[Cell] | dict[str, Cell] | None,
    Field(
        description="Values for placeholders: a list for ? (SQLite) or $1 (PostgreSQL), an object for :name (SQLite)."
    ),
]
RETURNED_BYTES = 1024 * 1024
"""Encoded bytes of rows that one answer carries."""
RETURNING_ROWS = 200
"""Rows that an acting statement's answer carries."""


class DatabaseTool:
    """Base of the database tools."""

    def __init__(self, system: DatabaseSystem, workspace: Workspace, settings: Mapping[str, DatabaseSettings]) -> None:
        self.system, self.workspace, self.settings = system, workspace, settings

    def id_of(self, name: str) -> str:
        """The database that a caller means, as an object.

        :raises ToolError: there is none.
        """
        if name in self.settings:
            return name
        with told():
            return self.workspace.database_id(name)

    def opened(self, id: str) -> Database:
        """The database.

        :raises ToolError: it cannot be opened.
        """
        with told():
            return self.system.database(id)

    def shown(self, id: str) -> str:
        """What the caller calls it."""
        if id in self.settings:
            return id
        with told():
            return self.workspace.shown(id)

    def settings_of(self, id: str) -> DatabaseSettings:
        """Its settings; those of a file in the workspace are the defaults."""
        return self.settings.get(id) or DEFAULTS

    def targets_of(self, id: str) -> Sequence[Target]:
        """What a call on it locks: the database, and where it is a file, that file as the file tools know it."""
        file = self.workspace.file_of(id)
        own = Target(self.system.name, id)
        return [own] if file is None else [own, Target("files", file)]

    def bounds(self, id: str, *, rows: int) -> Bounds:
        """What one call on it may take."""
        its = self.settings_of(id)
        return Bounds(
            seconds=its.statement_seconds,
            returned_rows=rows,
            returned_bytes=RETURNED_BYTES,
            capture_rows=its.capture_rows,
            capture_bytes=its.capture_bytes,
        )


DEFAULTS = DatabaseSettings(url="sqlite://")


def statement(sql: str, parameters: list[JsonValue] | dict[str, JsonValue] | None) -> Statement:
    """One statement with its values."""
    given: Parameters = parameters if parameters is not None else ()
    return Statement(sql, given)


@contextmanager
def told() -> Generator[None]:
    """Refusals of the system as refusals of the tool; names that the machine's files cannot have."""
    try:
        yield
    except (TargetError, ObjectError) as error:
        raise ToolError(str(error), advice=error.advice, code=getattr(error, "code", "storage")) from error
    except OSError as error:
        raise ToolError(
            f"There is no database of that name, and no file could have it ({error.strerror}).",
            advice="Call list_databases to see which there are.",
            code="not_found",
        ) from error
