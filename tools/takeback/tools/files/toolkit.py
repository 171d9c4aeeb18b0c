"""What the file tools share: paths that are checked, refusals that a model can act on, cursors, and the system they work on."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Annotated

from pydantic import ConfigDict, Field, TypeAdapter

from takeback.journal.states import State
from takeback.tools.contract import CallContext, Target, ToolError
from takeback.tools.files.edit import surrogate
from takeback.tools.files.system import FileSystem
from takeback.tools.system import TargetError

Path = Annotated[
    str, Field(description="Path of the file or folder: relative to the workspace, or absolute inside it.")
]
ExpectedDigest = Annotated[
    str | None,
    Field(description="The digest that reading it answered; the call is refused if the content has changed since."),
]

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]|\\x(?:[01][0-9a-f]|7f)")
"""Control characters, and the escapes that would make them."""
_LONGEST = 4096
_POSITION = TypeAdapter(list[str | int], config=ConfigDict(strict=True))


class FilesTool:
    """Base of the file tools: one file system, and how much of a file may be loaded at once."""

    def __init__(self, system: FileSystem, *, read_bytes: int) -> None:
        self.system, self.read_bytes = system, read_bytes

    def resolved(self, path: str, argument: str = "path", *, empty: bool = False) -> str:
        """The object that a path names.

        :param argument: what the caller named the path, for the refusal.
        :param empty: whether an empty path means the (first) root.
        :raises ToolError: there can be no such object.
        """
        if not path and not empty:
            raise ToolError(f"{argument} is empty.", advice="Name a file or folder in the workspace.", code="bad_name")
        if len(path) > _LONGEST or surrogate(path) is not None:
            raise ToolError(
                f"{argument} is {'too long' if len(path) > _LONGEST else 'not valid Unicode'}.",
                advice="Copy the path from list_directory.",
                code="bad_name",
            )
        if _CONTROL.search(path):
            raise ToolError(
                f"{argument} holds a control character.",
                advice="Use a name without line breaks, tabs and the like.",
                code="bad_name",
            )
        with told():
            return self.system.resolve(path or ".")

    def shown(self, object_id: str) -> str:
        """The path of an object as it is answered: one that leads back to this object when it is passed to a tool."""
        shown = self.system.display(object_id)
        if len(self.system.roots) > 1:  # then a root's name may also be the name of a folder in the first root
            try:
                return shown if self.system.resolve(shown) == object_id else object_id
            except TargetError:
                return object_id
        return shown

    def target(self, object_id: str, expected_digest: str | None = None) -> Target:
        """The object as the engine locks it."""
        return Target(self.system.name, object_id, expected_digest)

    def note(self, context: CallContext, object_id: str, state: State) -> str:
        """Remember what the caller was shown; the digest to answer."""
        digest = digest_of(state)
        context.seen[(self.system.name, object_id)] = digest
        return digest


def digest_of(state: State) -> str:
    """What reads answer as `digest`, and `expected_digest` is held against."""
    return state.content or state.digest


@contextmanager
def told() -> Generator[None]:
    """Hand what the file system refuses to the caller, who can mend it."""
    try:
        yield
    except TargetError as error:
        raise ToolError(_sentence(str(error)), advice=error.advice, code=error.code) from error


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."


def counted(number: int, one: str, many: str | None = None) -> str:
    """`1 byte`, `1,204 bytes`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


# -- cursors ------------------------------------------------------------------------------------------------------------------


def cursor_after(position: Sequence[str | int]) -> str:
    """An opaque cursor that says: go on after this one."""
    return base64.urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


def position_of(cursor: str, *kinds: type) -> list[str | int]:
    """What `cursor_after` was given.

    :param kinds: the types of its parts.
    :raises ToolError: it is none of ours.
    """
    try:
        position = _POSITION.validate_json(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:  # bad base64, bad JSON and bad types are all of this kind
        position = []
    if [type(part) for part in position] != list(kinds):
        raise ToolError(
            "The cursor is not one that this tool answered.", advice="Start again without it.", code="bad_cursor"
        )
    return position
