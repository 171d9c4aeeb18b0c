"""The outbox as a target system: held messages are objects, and taking one back is a swap like any other.

What a state's digest says is whether the message is still at home, is leaving, has left, or nobody knows. A message that
is late or could not be sent is as good as held: nothing of it has left, and it can be taken back.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, cast

import anyio
from blake3 import blake3
from pydantic import JsonValue, ValidationError

from takeback.checkpoints.objects import ObjectError, ObjectStore
from takeback.journal.ids import new_message_id
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.outbox.parting import part, rest_of, whole
from takeback.tools.outbox.port import SYSTEM, Carrier, Corrector, Outbox, Outgoing, corrector_of
from takeback.tools.outbox.rows import AT_HOME, Row, Status, when
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.store import OutboxStore, Transaction
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetSystem, Unavailable
from takeback.tools.titles import mail_called

log = logging.getLogger(__name__)

SENDING_WAIT, SENDING_STEP = 3.0, 0.05
"""Seconds that a look waits for the end of a sending, and between two looks."""
SHOWN: Final[tuple[Status, ...]] = ("HELD", "SENDING", "UNKNOWN", "LATE", "DEAD", "WAITING")
"""What somebody may have to do something about."""


class OutboxSystem(TargetSystem, Outbox):
    """Open while the server is."""

    name = SYSTEM

    def __init__(
        self, data: Path, objects: ObjectStore, settings: OutboxSettings, *, now: Callable[[], float] = time.time
    ) -> None:
        """
        :param data: the data directory.
        """
        self.folder = data / "outbox"
        self.store = OutboxStore(self.folder / "outbox.db")
        self.settings, self.hold_seconds = settings, settings.hold_seconds
        self.carriers: Mapping[str, Carrier] = {}
        """By name; set once the families are open."""
        self.correctors: Mapping[str, Corrector] = {}
        """Those too."""
        self.now = now
        self._objects = objects

    def close(self) -> None:
        """Let go of the file."""
        self.store.close()

    # -- for tools ---------------------------------------------------------------------------------------------------------

    async def rows(self, owner: str | None, *, everything: bool = False) -> Sequence[Row]:
        """See the port. Without an owner: of everybody."""
        return await self.store.read(lambda rows: rows.find(() if everything else SHOWN, owner))

    async def about(self, corrector: str, object: str) -> Sequence[Row]:
        """See the port."""
        if not self.store.file.exists():
            return ()
        return [
            row
            for row in await self.store.read(lambda rows: rows.find())
            if row.status != "CANCELLED"
            and corrector_of(row.message.memo) == corrector
            and isinstance(row.message.memo, dict)
            and row.message.memo.get("object") == object
        ]

    async def hold(self, messages: Sequence[tuple[Outgoing, float]], objects: ObjectStore) -> Sequence[Effect]:
        """See the port."""
        effects: list[Effect] = []
        for message, seconds in messages:
            if not self.settings.minimum_seconds <= seconds <= self.settings.maximum_seconds:
                raise Refused(
                    f"A message cannot be held for {seconds:,.0f} s here.",
                    advice=f"Choose from {self.settings.minimum_seconds:g} to {self.settings.maximum_seconds:g} s.",
                )
            if message.carrier not in self.carriers:
                raise Refused(
                    f"Nobody here can deliver by {message.carrier!r}.",
                    advice="Configure the mailbox that it belongs to.",
                )
            after = state_of(new_message_id(), message, seconds, "held")
            effects.append(Effect(system=SYSTEM, object=_id(after), before=ABSENT, after=after))
        return effects

    # -- the port ----------------------------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        deadline = time.monotonic() + SENDING_WAIT
        while True:
            rows = await self.store.read(lambda rows: [rows.get(id) for id in objects])
            leaving = any(row is not None and row.status == "SENDING" for row in rows)
            if not leaving or time.monotonic() > deadline:
                return [_present(row) for row in rows]
            await anyio.sleep(SENDING_STEP)

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        contents = {effect.object: await self._content(_message(effect.after)) for effect in effects if _holds(effect)}
        return await self.store.run(lambda rows: self._swap(rows, effects, contents))

    def _swap(self, rows: Transaction, effects: Sequence[Effect], contents: Mapping[str, bytes]) -> Swapped | Drifted:
        found = [rows.get(effect.object) for effect in effects]
        present = tuple(_present(row) for row in found)
        if all(now.same(effect.after) for now, effect in zip(present, effects, strict=True)):
            return Swapped(_read_back(effects, present), already=True)
        for now, row, effect in zip(present, found, effects, strict=True):
            if not now.same(effect.before):
                return Drifted(present, _why(row, effect))
        for row, effect in zip(found, effects, strict=True):
            if _holds(effect):
                self._hold(rows, row, effect.after, contents[effect.object])
            elif not (effect.after.absent and self._cancel(rows, row, effect.object)):
                raise Refused(
                    "A message in the outbox can be held, and taken back before it goes out, and nothing else.",
                    advice="Look at it with `takeback outbox`.",
                )
        return Swapped(_read_back(effects, tuple(_present(rows.get(effect.object)) for effect in effects)))

    def _cancel(self, rows: Transaction, row: Row | None, id: str) -> bool:
        gone: dict[str, Any] = {"content": None}
        if row is not None and row.held_as is not None:
            # it may be held again, and then for all; what a person has written into it is nowhere else
            gone = {"message": whole(row.message).model_dump_json()}
            if not row.edited:
                gone = {"content": None, "message": row.held_as.model_dump_json(), "held_as": ""}
        return rows.change(
            id, only=AT_HOME, status="CANCELLED", changed_at=self.now(), detail="", told="CANCELLED", **gone
        )

    def _hold(self, rows: Transaction, row: Row | None, after: State, content: bytes) -> None:
        now, window = self.now(), _window(after)
        if row is None:
            new = Row(
                id=_id(after),
                status="HELD",
                message=_message(after),
                window=window,
                held_at=now,
                release_at=now + window,
                attempts=0,
                changed_at=now,
                detail="",
                told="HELD",  # stands in the journal together with the outcome of the act
                corrects="",
                run_id="",
                action_id="",
                owner="",
            )
            rows.insert(new, content)
            return
        if row.held_as is not None:  # it comes back as a person had changed it
            kept = rows.content(row.id)
            if kept is None:
                raise Refused("The message as a person had changed it is not kept.", advice="Write it anew.")
            content = kept
        rows.change(
            row.id,
            only=("CANCELLED",),
            status="HELD",
            content=content,
            held_at=now,
            release_at=now + window,
            attempts=0,
            changed_at=now,
            detail="",
            told="HELD",
        )

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        rows = await self.store.read(lambda rows: [rows.get(effect.object) for effect in wanted])
        for row, effect, now in zip(rows, wanted, present, strict=True):
            if not now.same(effect.before) and not now.same(effect.after):
                return Clash(_why(row, effect))
        return Merged(
            tuple(
                Effect(system=SYSTEM, object=effect.object, before=now, after=effect.after)
                for effect, now in zip(wanted, present, strict=True)
                if not now.same(effect.after)
            ),
            why="What had been cancelled already stays so.",
        )

    async def describe(self, effect: Effect) -> Preview:
        shown = effect.after if effect.before.absent else effect.before
        message = _message(shown)
        whom = ", ".join(message.recipients)  # all of them, and the whole subject: a person may have to agree
        title = f"“{message.subject}” to {whom}" if whom else f"“{message.subject}”"
        verb, out = ("send", "goes out") if whom else ("do", "is done")
        if _holds(effect):
            return Preview(f"{verb} {title}, after {_window(effect.after):g} s in the outbox ({message.size:,} bytes)")
        return Preview(f"cancel {title} before it {out}" if effect.after.absent else f"leave {title}")

    async def called(self, effect: Effect) -> str:
        """The message as people know it: “Offer” to ann@example.org (its id)."""
        for state in (effect.after, effect.before):
            if not state.absent and "message" in state.ref:
                message = _message(state)
                return f"{mail_called(message.subject, message.recipients)} ({effect.object})"
        row = await self.get(effect.object)
        return (
            effect.object if row is None else f"{mail_called(row.message.subject, row.message.recipients)} ({row.id})"
        )

    async def read(self, state: State) -> bytes | None:
        if state.absent:
            return None
        kept = await self.store.read(lambda rows: _kept(rows, state))
        return kept if kept is not None else await self._content(_message(state))

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        """Forget messages that went out or were cancelled, once no act refers to them any more: those of acts that undo is not
        promised for any more, and those whose payload was erased. What waits is never forgotten."""
        if not self.store.file.exists():
            return 0
        needed = {str(state.ref.get("id")) for state in keep if state.ref.get("id")}
        oldest = self.now() - older_than_ns / 1e9

        def forget(rows: Transaction) -> int:
            freed = 0
            for row in rows.find(("SENT", "CANCELLED")):
                told = row.told == row.status and row.changed_at < oldest
                if told and needed.isdisjoint((row.id, row.corrects, rest_of(row.message))):
                    freed += rows.delete(row.id) + len(row.message.model_dump_json())
            return freed

        freed = await self.store.run(forget)
        if freed:
            await self.store.shed()
        return freed

    # -- for the engine and for a person ------------------------------------------------------------------------------------

    async def belongs(self, ids: Sequence[str], *, run_id: str, action_id: str, owner: str) -> None:
        """Note whose act holds these messages. Before that they are nobody's, and do not go out."""
        await self.store.run(
            lambda rows: [
                rows.change(id, only=("HELD",), run_id=run_id, action_id=action_id, owner=owner) for id in ids
            ]
        )

    async def of_action(self, action_id: str) -> Sequence[Row]:
        """The messages of an act, and their corrections."""
        return await self.store.read(lambda rows: rows.of_action(action_id))

    async def move(self, id: str, status: Status, *, only: tuple[Status, ...], **values: Any) -> bool:
        """The compare-and-set that everything rests on: durable on return. Whether it was this one that moved it.

        :param values: other columns to change along.
        """
        changed = {"status": status, "changed_at": self.now(), **values}
        return await self.store.run(lambda rows: rows.change(id, only=only, **changed))

    async def replace(self, row: Row, message: Outgoing, content: bytes, **values: Any) -> bool:
        """Let a message that is at home say something else; its act holds it as before. Whether nobody was faster.

        :param row: as it was looked at: another status or another message by now, and nothing is changed.
        :param values: other columns to change along.
        """
        told = message.model_dump_json()
        held_as = (row.held_as or row.message).model_dump_json()

        def change(rows: Transaction) -> bool:
            now = rows.get(row.id)
            if now is None or now.message != row.message or row.status not in AT_HOME:
                return False
            return rows.change(
                row.id,
                only=(row.status,),
                message=told,
                content=content,
                held_as=held_as,
                changed_at=self.now(),
                **values,
            )

        return await self.store.run(change)

    async def split(self, row: Row, rests: Sequence[Row]) -> bool:
        """Leave out of a message that is being sent what becomes messages of their own, all at once; before it has left.

        :param row: as it was claimed.
        :param rests: parts of it (`parting.part`), each with an id of its own.
        """
        others = {each for rest in rests for each in rest.message.recipients}
        mine = part(row.message, [each for each in row.message.recipients if each not in others])

        def change(rows: Transaction) -> bool:
            content = rows.content(row.id)
            if content is None or not rows.change(
                row.id,
                only=("SENDING",),
                message=mine.model_dump_json(),
                held_as=(row.held_as or row.message).model_dump_json(),
                told="",  # nobody has begun to send what it is now
            ):
                return False
            for rest in rests:
                rows.insert(rest, content)
            return True

        return await self.store.run(change)

    async def stop(self, id: str, why: str) -> bool:
        """Let a held message wait for a person."""
        return await self.move(id, "LATE", only=("HELD",), detail=why)

    async def told(self, id: str, status: Status) -> None:
        """Note that the journal knows of this status."""
        await self.store.run(lambda rows: rows.change(id, only=(status,), told=status))

    async def propose_corrections(self, row: Row) -> Sequence[Row]:
        """What makes up for a message that went out, made once, waiting for a person's consent. None: none can be made."""
        mine = [one for one in await self.of_action(row.action_id) if one.corrects == row.id]
        known = [one for one in mine if one.status != "CANCELLED"]
        if known:
            return known
        try:
            proposed = await self._corrections(row, f"takeback.{new_message_id()}")
        except Exception as error:  # third-party code, or bytes that are not kept any more: a person does it by hand
            log.warning("no correction of %s could be made: %s", row.id, type(error).__name__)
            return ()
        now = self.now()
        corrections = [
            (
                replace(
                    row,
                    id=new_message_id(),
                    status="WAITING",
                    message=message,
                    window=0.0,
                    held_at=now,
                    release_at=now,
                    attempts=0,
                    changed_at=now,
                    detail="",
                    told="WAITING",
                    corrects=row.id,
                ),
                content,
            )
            for message, content in proposed
        ]

        def insert(rows: Transaction) -> Sequence[Row]:
            others = [one for one in rows.of_action(row.action_id) if one.corrects == row.id]
            if faster := [one for one in others if one.status != "CANCELLED"]:
                return faster  # another rollback
            for correction, content in corrections:
                rows.insert(correction, content)
            return [correction for correction, _ in corrections]

        return await self.store.run(insert)

    async def _corrections(self, row: Row, reference: str) -> Sequence[tuple[Outgoing, bytes]]:
        content = await self._left(row)
        sent_at = when(row.changed_at)
        if (corrector := self.correctors.get(corrector_of(row.message.memo))) is not None:
            return await corrector.corrections(row.message, content, sent_at=sent_at, reference=reference)
        carrier = self.carriers.get(row.message.carrier)
        if carrier is None:
            return ()
        made = await carrier.correction(row.message, content, sent_at=sent_at, reference=reference)
        return () if made is None else [made]

    async def _left(self, row: Row) -> bytes:
        """The bytes that went out: of what a person had changed they are kept with the message."""
        kept = None if row.held_as is None else await self.store.read(lambda rows: rows.content(row.id))
        return kept if kept is not None else await self._content(row.message)

    async def get(self, id: str) -> Row | None:
        """One message."""
        return await self.store.read(lambda rows: rows.get(id))

    async def waiting(self) -> bool:
        """Whether there is something that a sender has to wait for."""
        return self.store.file.exists() and bool(await self.store.read(lambda rows: rows.find(("HELD", "SENDING"))))

    async def _content(self, message: Outgoing) -> bytes:
        try:
            return await self._objects.get(message.content)
        except ObjectError as error:
            raise Unavailable(f"The bytes of the message cannot be read: {error}.", advice=error.advice) from error


def state_of(
    id: str, message: Outgoing, window: float, kind: str, more: Mapping[str, JsonValue] | None = None
) -> State:
    """The state of a message that is there.

    :param kind: `held`, `sending`, `sent` or `unknown`.
    """
    told = blake3(f"{kind}\0{id}\0{message.model_dump_json()}".encode()).hexdigest()
    return State(
        digest=f"blake3:{told}",
        kind=kind,
        content=message.content,
        size=message.size,
        objects=(message.content,),
        ref={"id": id, "message": message.model_dump(mode="json"), "window": window, **(more or {})},
    )


def _present(row: Row | None) -> State:
    if row is None or row.status == "CANCELLED":
        return ABSENT
    kind = "held" if row.status in AT_HOME else row.status.lower()
    more: dict[str, JsonValue] = {"release_at": row.release_time} if kind == "held" else {}
    # to its act, a message that a person has changed is the one that it holds, for as long as nothing has left
    message = row.held_as if kind == "held" and row.held_as is not None else row.message
    return state_of(row.id, message, row.window, kind, more)


def _kept(rows: Transaction, state: State) -> bytes | None:
    """The bytes in the outbox, if they are those of the state."""
    row = rows.get(_id(state))
    return None if row is None or row.message != _message(state) else rows.content(row.id)


def _read_back(effects: Sequence[Effect], present: Sequence[State]) -> tuple[Effect, ...]:
    return tuple(
        Effect(system=SYSTEM, object=effect.object, before=effect.before, after=now)
        for effect, now in zip(effects, present, strict=True)
    )


def _why(row: Row | None, effect: Effect) -> str:
    """Why the message is not as the effect expects it."""
    if row is None:
        return f"there is no message {effect.object} in the outbox"
    whom = ", ".join(row.message.recipients)
    out, to = ("went out", f" to {whom}") if whom else ("was done", "")
    match row.status:
        case "SENT":
            return f"it {out} at {when(row.changed_at)}{to}"
        case "SENDING":
            return f"it is being {'sent' if whom else 'done'}{to} right now; try again in a moment"
        case "UNKNOWN":
            return f"nobody knows whether it {out}{to} at {when(row.changed_at)}"
        case "CANCELLED":
            return "it was cancelled already"
        case _:
            return "it is held already"


def _holds(effect: Effect) -> bool:
    return effect.before.absent and effect.after.kind == "held"


def _id(state: State) -> str:
    return str(state.ref["id"])


def _message(state: State) -> Outgoing:
    try:
        return Outgoing.model_validate(state.ref["message"], strict=False)
    except (KeyError, ValidationError) as error:
        raise Refused("This is not the state of a message.", advice="Run `takeback verify`.") from error


def _window(state: State) -> float:
    return float(cast("float", state.ref["window"]))
