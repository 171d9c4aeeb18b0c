"""A tool whose acts wait in the outbox, as mail does."""

from __future__ import annotations

from typing import Self

from takeback.tools.memory import PostNote
from takeback.tools.memory_system import MemorySystem
from takeback.tools.registry import Family, Services


class PostLater(PostNote):
    """Posts a note in an hour."""

    name, title, description = "post_later", "Post a note later", "Posts a note to the board in an hour."
    hold = 3600.0


class LaterFamily(Family):
    """One tool."""

    name = "later"

    def __init__(self, system: MemorySystem) -> None:
        self.tools = (PostLater(system),)

    @classmethod
    async def open(cls, services: Services) -> Self:
        return cls(MemorySystem(objects=services.objects))
