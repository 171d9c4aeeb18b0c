"""What a database has to do so that any statement on it can be taken back. `sqlite/` and `postgres/` are the two that do.

The verbs are those of `TargetSystem`, for the objects of one database (`names.py`): `DatabaseSystem` hands each call to the
database that the objects belong to. What a state of kind `row` looks like is common to all (`rows.py`); the other kinds are
each database's own:

- `row`: one row, where an action changed at most `rows.AS_OBJECTS` of them. Fingerprint over its stored columns.
- `rows`: all rows of one table that one action changed, as one object (the table), where they are more or have no key. Its
  fingerprint says which image (in the object store) and which side of it: `rows:<image>:before`. Two actions' states are not
  comparable with each other, only with what `look` finds for the same rows (`like`).
- `sequence`: a counter (`sqlite_sequence`, a PostgreSQL sequence).
- `table`, `database`: the thing as a whole, for what no rows can tell (DDL).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, WithJsonSchema

from takeback.checkpoints.objects import ObjectStore
from takeback.journal.states import Effect, Reversibility, State
from takeback.tools.database.rows import Row
from takeback.tools.system import Clash, Drifted, Merged, Preview, Swapped

_PLAIN: list[dict[str, Any]] = [
    {"type": "string"},
    {"type": "number"},
    {"type": "boolean"},
    {"type": "null"},
    {"type": "object", "additionalProperties": True},
]
Cell = Annotated[JsonValue, WithJsonSchema({"anyOf": [*_PLAIN, {"type": "array", "items": {"anyOf": _PLAIN}}]})]
"""A value as JSON has it. Said in full, because some clients take no schema that accepts everything."""

Parameters = Sequence[JsonValue] | Mapping[str, JsonValue]
"""Values for a statement's placeholders, by place or by name: the driver binds them, nothing is put into the text."""


class Facts(BaseModel):
    """Base of what is answered about databases."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(Facts):
    """A column of a table."""

    name: str
    type: str = Field(description="As the database spells it.")
    nullable: bool
    default: str | None = Field(default=None, description="The expression, as the database spells it.")
    generated: bool = False


class ForeignKey(Facts):
    """A foreign key of a table."""

    columns: list[str]
    table: str = Field(description="The table it refers to.")
    references: list[str]
    on_delete: str = ""
    on_update: str = ""


class Table(Facts):
    """A table or view, and whether changes to it can be taken back."""

    name: str = Field(description="With its schema, where it is not the usual one.")
    kind: str = Field(description="table, view, virtual table, partitioned table …")
    rows: int | None = Field(description="Rows; an estimate where `estimated` is true; null where nobody counted.")
    estimated: bool = False
    columns: list[Column]
    key: list[str] = Field(description="Columns of the primary key; empty if there is none.")
    foreign_keys: list[ForeignKey] = []
    triggers: list[str] = Field(default=[], description="Names of its triggers.")
    undo: Reversibility = Field(description="How a change of its rows can be taken back.")
    why: str = Field(default="", description="Why it cannot simply be put back; empty if it can.")


class Description(Facts):
    """What `describe_database` answers."""

    database: str
    kind: Literal["sqlite", "postgresql"]
    version: str = Field(description="Of the database's software.")
    tables: list[Table]
    undo: Reversibility = Field(description="How most statements on it can be taken back.")
    why: str = ""
    notes: list[str] = Field(
        default=[], description="What is worth knowing before writing: how changes are captured, …"
    )


class Rows(Facts):
    """Rows that a statement returned."""

    columns: list[str]
    rows: list[list[Cell]] = Field(
        description="Values; bytes as {base64: …}, what JSON cannot say (large numbers, times) as text."
    )
    truncated: bool = Field(default=False, description="Whether there are more than were asked for.")


class Done(Facts):
    """What one statement did."""

    changed: int | None = Field(description="Rows that the database counted; null where it does not count (DDL).")
    returned: Rows | None = Field(default=None, description="What it returned (RETURNING, SELECT).")


class Changed(Facts):
    """What happened to a table, triggers and cascades included."""

    table: str
    inserted: int = 0
    updated: int = 0
    deleted: int = 0
    """Rows."""
    note: str = Field(default="", description="What rows cannot say: created, dropped, altered …")


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its values."""

    sql: str
    parameters: Parameters = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one call may take: beyond it is refused, or said and asked about, never discovered."""

    seconds: float
    """For all statements of the call."""
    returned_rows: int
    returned_bytes: int
    capture_rows: int
    """Rows whose images are kept; a call that changes more is irreversible."""
    capture_bytes: int


@dataclass(slots=True)
class Samples:
    """The first changed rows of each table, before and after, for previews."""

    pairs: dict[str, list[tuple[Row | None, Row | None]]] = field(
        default_factory=lambda: dict[str, list[tuple[Row | None, Row | None]]]()
    )


class Execution(ABC):
    """Statements that ran in a transaction which is still open: all is known of them, and nobody else can see it.

    Leave it with `commit` or with `discard`. All attributes are set when it is handed over.
    """

    effects: tuple[Effect, ...]
    done: tuple[Done, ...]
    """One for each statement."""
    changed: tuple[Changed, ...]
    samples: Samples
    reversibility: Reversibility = "reversible"
    reason: str = ""
    """Why this very call is not reversible; empty if it is."""
    how: str = "Put the earlier rows back."
    blobs: Mapping[str, bytes] = {}
    """Small images, made durable together with the intent; larger ones are in the store already."""
    warnings: tuple[str, ...] = ()
    schema: int = 0
    """How many tables, views, indexes … it makes, alters or drops; at least 1 if it does anything of that kind."""

    @abstractmethod
    async def commit(self) -> tuple[Effect, ...]:
        """COMMIT, and the effects as read back.

        :raises ToolError, TargetError: proven: nothing happened. Anything else leaves the action in doubt.
        """

    @abstractmethod
    async def discard(self) -> None:
        """ROLLBACK, if it was not committed. May be called twice."""


class Database(ABC):
    """One database. Opened when it is first used; holds nothing open between two calls that would stand in others' way.

    Every refusal is a `ToolError` (from `query` and `execute`) or a `TargetError` (from the others): one sentence of fact and
    one of advice, without values of rows that the caller did not send, and without secrets.
    """

    kind: ClassVar[Literal["sqlite", "postgresql"]]

    def __init__(self, id: str, objects: ObjectStore) -> None:
        """
        :param id: the object that the database is (`names.Name.database`).
        """
        self.id, self.objects = id, objects

    @abstractmethod
    async def describe_all(self) -> Description:
        """Tables, columns, keys, rows, and what can be taken back."""

    @abstractmethod
    async def query(self, statement: Statement, bounds: Bounds) -> Rows:
        """Run one statement that reads. Nothing that writes gets through.

        :raises ToolError: it writes, it is more than one statement, or the database refuses it.
        """

    @abstractmethod
    async def execute(self, statements: Sequence[Statement], bounds: Bounds) -> Execution:
        """Run statements in one transaction and find out what they changed, without committing.

        :raises ToolError: refused, failed or too slow; nothing has changed.
        """

    # -- the verbs of `TargetSystem`, for objects of this database -----------------------------------------------------------

    @abstractmethod
    async def look(self, objects: Sequence[str], like: Sequence[State | None]) -> Sequence[State]:
        """See `TargetSystem.look`. A database, table or row that is not there is `ABSENT`, not an error."""

    @abstractmethod
    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        """See `TargetSystem.swap`: all in one transaction, compared before, read back before COMMIT.

        Triggers stay silent, cascades do not run again; foreign keys and unique constraints hold afterwards, or nothing is done
        (`Drifted`, with the constraint in `why`).
        """

    @abstractmethod
    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        """See `TargetSystem.merge`: rows column by column; a counter that others used stays as it is."""

    @abstractmethod
    async def happened(self, effects: Sequence[Effect]) -> bool | None:
        """See `TargetSystem.happened`."""

    @abstractmethod
    async def describe(self, effect: Effect) -> Preview:
        """See `TargetSystem.describe`."""

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        """See `TargetSystem.collect`: images lie in the object store, which collects its own."""
        return 0

    async def close(self) -> None:
        """Let go of connections."""
