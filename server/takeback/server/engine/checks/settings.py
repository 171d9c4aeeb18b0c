"""`[[checks]]`: each binds objects to a parser, a command or a query."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Parser = Literal["json", "jsonl", "toml", "yaml", "ini", "xml", "python", "utf-8"]
OnFail = Literal["warn", "contain", "rollback"]
Scalar = bool | int | float | str | None


class CheckSettings(BaseModel):
    """One check. Exactly one of `parser`, `command` and `query` says what it does."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="What journal and answers call it.")
    objects: tuple[str, ...] = Field(
        default=(), description='Which objects: patterns of paths or names ("*.toml"); none: every object of `systems`.'
    )
    systems: tuple[str, ...] = Field(default=(), description="Only objects of these systems (files, database, …).")
    parser: Parser | None = Field(default=None, description="The object has to be that, by its syntax.")
    command: tuple[str, ...] | None = Field(
        default=None, description="Has to end with 0. No shell; {path} stands for the object's path."
    )
    query: str | None = Field(default=None, description="A SELECT whose first value has to be `equals`.")
    database: str | None = Field(default=None, description="Where the query runs.")
    equals: Scalar = Field(default=None, description="What the query has to answer.")
    timeout_seconds: float = Field(default=20, gt=0, le=600, description="Bound of a command or query.")
    on_fail: OnFail = Field(default="warn", description="warn, contain the run, or rollback the act at once.")

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if sum(way is not None for way in (self.parser, self.command, self.query)) != 1:
            raise ValueError(f"the check {self.name!r} needs exactly one of parser, command and query")
        if self.command is not None and not (self.command and self.command[0]):
            raise ValueError(f"the command of the check {self.name!r} names no program")
        if (self.query is None) != (self.database is None):
            raise ValueError(f"the check {self.name!r} needs query and database together")
        if self.parser is not None and not self.objects:
            raise ValueError(f"the check {self.name!r} has a parser and needs objects to parse")
        return self

    @property
    def sees_path(self) -> bool:
        """Whether it is about one object at a time; else it is about the whole, and runs once."""
        return self.parser is not None or any("{path}" in part for part in self.command or ())


def check_names(checks: tuple[CheckSettings, ...]) -> tuple[CheckSettings, ...]:
    """The same checks.

    :raises ValueError: two have the same name.
    """
    names = [check.name for check in checks]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"two checks are called {name!r}")
    return checks
