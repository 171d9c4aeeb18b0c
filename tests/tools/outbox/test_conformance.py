"""The outbox put through the kit that every target system is put through."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from takeback.journal.states import Effect
from takeback.tools.conformance.system import SystemConformance
from takeback.tools.conformance.world import KitObjects, World
from takeback.tools.outbox.port import Carrier, Delivered, Outgoing
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.system import Drifted, TargetSystem


class Nowhere(Carrier):
    name = "nowhere"

    async def deliver(self, message: Outgoing, content: bytes) -> Delivered:
        raise AssertionError("nothing is sent here")


class TestOutbox(SystemConformance):
    @pytest_asyncio.fixture
    async def system(self, tmp_path: Path) -> AsyncIterator[OutboxSystem]:
        self.objects = KitObjects()
        system = OutboxSystem(tmp_path, self.objects, OutboxSettings())
        system.carriers = {"nowhere": Nowhere()}
        yield system
        system.close()

    @pytest.fixture
    def world(self, system: OutboxSystem) -> World:
        async def snapshot() -> Any:
            rows = await system.rows(None, everything=True)
            return [(row.id, row.status, row.message) for row in rows if row.status != "CANCELLED"]

        return World(snapshot=snapshot)

    @pytest_asyncio.fixture
    async def effects(self, system: OutboxSystem) -> Sequence[Effect]:  # type: ignore[override]  # with another system
        return await system.hold([(await self.message(subject), 60.0) for subject in ("one", "two")], self.objects)

    async def message(self, subject: str) -> Outgoing:
        content = f"Subject: {subject}\r\n\r\nHello\r\n".encode()
        return Outgoing(
            carrier="nowhere",
            content=await self.objects.put(content),
            size=len(content),
            sender="me",
            recipients=("you@example.org",),
            subject=subject,
            reference=f"<{subject}@example.org>",
        )

    async def meddle(self, system: TargetSystem, name: str) -> None:
        """Somebody else has had the message sent."""
        assert isinstance(system, OutboxSystem)
        if await system.get(name) is None:
            await system.swap([effect for effect in self.known if effect.object == name])
        assert await system.move(name, "SENT", only=("HELD",))

    @pytest.fixture(autouse=True)
    def remembered(self, effects: Sequence[Effect]) -> None:
        self.known = effects

    async def test_of_two_swaps_one_wins(self, system: TargetSystem, effects: Sequence[Effect]) -> None:
        """A sender that claims a message and a rollback that cancels it: exactly one gets its way."""
        assert isinstance(system, OutboxSystem)
        await system.swap(effects)
        assert await system.move(effects[0].object, "SENDING", only=("HELD",))
        assert not await system.move(effects[0].object, "CANCELLED", only=("HELD",))
        await system.move(effects[0].object, "SENT", only=("SENDING",))
        answer = await system.swap([effects[0].reversed()])
        assert isinstance(answer, Drifted)
        assert "it went out at" in answer.why
