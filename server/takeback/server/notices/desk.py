"""What a person can do about notices: look, try again, close, and see whether every channel works."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

import anyio
from pydantic import BaseModel

from takeback.journal.events import BaseEvent, Caller, ConflictResolved
from takeback.journal.ids import ConflictId, RunId
from takeback.journal.views import OpenItem
from takeback.server.engine.core import Core, rfc3339
from takeback.server.engine.pages import Visible
from takeback.server.notices.channel import Notice, NotSent
from takeback.server.notices.notifier import SEND_SECONDS, SYSTEM, store_file
from takeback.server.notices.opening import open_channels
from takeback.server.notices.settings import NotifySettings
from takeback.server.notices.store import FAILED, NoticeStore, Row


class NoticeInfo(BaseModel):
    """One notice to one channel, as it is shown."""

    run_id: str
    kind: str
    channel: str
    status: str
    attempts: int
    changed: str
    detail: str
    object: str


@dataclass(slots=True)
class NoticeDesk:
    """For one engine."""

    core: Core

    async def rows(self, caller: Caller, *, everything: bool = False) -> Sequence[NoticeInfo]:
        """The notices about the caller's runs, oldest first."""
        if not store_file(self.core.settings.data).exists():
            return ()
        visible = Visible(self.core, caller)
        return [
            NoticeInfo(
                run_id=row.run_id, kind=row.kind, channel=row.channel, status=row.status, attempts=row.attempts,
                changed=rfc3339(datetime.fromtimestamp(row.changed_at, UTC)), detail=row.detail, object=row.object,
            )
            for row in await self._rows()
            if (everything or row.status not in ("SENT", "SETTLED")) and await visible.sees(RunId(row.run_id))
        ]  # fmt: skip

    async def retry(self, caller: Caller) -> int:
        """Have everything tried again that failed; how many that are."""
        visible, again = Visible(self.core, caller), 0
        for row in await self._rows():
            if row.status in FAILED and await visible.sees(RunId(row.run_id)):
                again += await self._move(row, "PENDING")
                await self._close(row, caller, "it is tried again")
        return again

    async def settled(self, object: str) -> None:
        """A person has closed the open item about a notice: it is not tried any more."""
        for row in await self._rows():
            if row.object == object and row.status in FAILED:
                await self._move(row, "SETTLED")

    async def _rows(self) -> list[Row]:
        file = store_file(self.core.settings.data)
        if not file.exists():
            return []
        store = NoticeStore(file)
        try:
            return await store.rows()
        finally:
            store.close()

    async def _move(self, row: Row, to: Literal["PENDING", "SETTLED"]) -> bool:
        store, now = NoticeStore(store_file(self.core.settings.data)), self.core.now().timestamp()
        try:
            if to == "SETTLED":
                done = await store.move(row, "SETTLED", only=FAILED, now=now, detail=row.detail)
                await store.told(replace(row, status="SETTLED"))
                return done
            return await store.move(row, "PENDING", only=FAILED, now=now, detail=row.detail, attempts=0, next_at=now)
        finally:
            store.close()

    async def _close(self, row: Row, caller: Caller, why: str) -> None:
        run_id = RunId(row.run_id)
        events: list[BaseEvent] = [
            ConflictResolved(
                run_id=run_id, at=self.core.now(), conflict_id=ConflictId(item.id), choice="settled",
                by=caller.principal, why=why,
            )
            for item in await self.core.journal.find(OpenItem, run_id=run_id, status="open")
            if (item.system, item.object) == (SYSTEM, row.object)
        ]  # fmt: skip
        if events:
            await self.core.record(events)


async def try_all(settings: NotifySettings) -> dict[str, str]:
    """Send a test through every channel: by name why it did not arrive, empty where it did."""
    notice = Notice(
        id=f"test-{secrets.token_hex(8)}",
        kind="run_failed",
        title="takeback: this is a test",
        body="If you can read this, notices of takeback reach you here.",
        data={"test": True},
    )
    tried: dict[str, str] = {}
    for channel in open_channels(settings):
        try:
            with anyio.fail_after(SEND_SECONDS):
                await channel.send(notice)
            tried[channel.name] = ""
        except NotSent as error:
            tried[channel.name] = str(error)
        except TimeoutError:
            tried[channel.name] = f"nothing was heard for {SEND_SECONDS:g} s"
    return tried
