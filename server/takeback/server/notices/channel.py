"""What a notice is, and what carries it to somebody."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from takeback.server.notices.settings import Kind


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that a person should know now. Without secrets, and without a token in any link."""

    id: str
    """The same at each attempt, so that whoever got it twice can tell."""
    kind: Kind
    title: str
    body: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    """The same for programs."""
    place: str = ""
    """Where the local page of this machine's person has it; empty: nowhere."""


class NotSent(Exception):
    """The notice did not reach anybody; why, in words that hold no secret."""

    def __init__(self, why: str, *, again: bool) -> None:
        """:param again: whether it is worth trying again."""
        super().__init__(why)
        self.again = again


class Channel(ABC):
    """One way to somebody."""

    name: str
    repeatable: bool = False
    """Whether whoever gets the same notice twice can tell, so that it may be sent again when nobody knows whether it
    arrived."""

    @abstractmethod
    async def send(self, notice: Notice) -> None:
        """Bring it there.

        :raises NotSent: it did not arrive.
        """


class Broken(Channel):
    """A channel that cannot be used as it is configured: it says so at each notice, instead of keeping quiet."""

    def __init__(self, name: str, why: str) -> None:
        self.name, self._why = name, why

    async def send(self, notice: Notice) -> None:
        raise NotSent(self._why, again=False)
