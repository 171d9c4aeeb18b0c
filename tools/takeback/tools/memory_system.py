"""A small, whole target system: named texts in a dictionary.

It keeps every promise of `TargetSystem` with the least code that can, so it is what the conformance kit and the engine are
tested on, and what to read before writing a system of one's own. By default it lives in memory; given a file, other
processes see the same texts. `on_step` is called at each step, so that a test can fail, wait or die there.
"""

from __future__ import annotations

import difflib
import inspect
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectError, ObjectStore
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetSystem

INLINE = 1024
"""Bytes up to which a text travels in its state; longer ones lie in the object store, if there is one."""

CLASH: Final = object()


def _nothing(step: str) -> None:
    """The usual `on_step`."""


class MemorySystem(TargetSystem):
    """Texts by name. A slash in a name says that the object lives in another: `a/b` lives in `a`."""

    def __init__(self, name: str = "memory", *, file: Path | None = None, objects: ObjectStore | None = None) -> None:
        """
        :param file: keep the texts there, so that other processes see them and they outlive this one.
        :param objects: where before-images of more than `INLINE` bytes are kept; without it they travel in their states.
        """
        self.name = name
        self.objects = objects
        self.on_step: Callable[[str], Awaitable[None] | None] = _nothing
        """Called with `look`, `swap` (nothing done yet), `swapped` (done, not yet answered), and by the tools with `post`,
        `posted`, `delete`, `deleted`. What it raises is raised there; what it returns is awaited."""
        self._staged: dict[str, str] = {}
        self._db = sqlite3.connect(file or ":memory:", isolation_level=None, timeout=10, check_same_thread=False)
        # killed processes lose nothing with this; only a power cut could, and nobody keeps anything here
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute("CREATE TABLE IF NOT EXISTS texts (object TEXT PRIMARY KEY, text TEXT NOT NULL) WITHOUT ROWID")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS kept (digest TEXT PRIMARY KEY, text TEXT NOT NULL, at INTEGER NOT NULL)"
        )
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS notes (id TEXT PRIMARY KEY, kind TEXT NOT NULL, text TEXT NOT NULL)"
        )

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    # -- the world, as somebody else sees and changes it ---------------------------------------------------------------

    def texts(self) -> dict[str, str]:
        """Everything that is there."""
        return dict(cast("list[tuple[str, str]]", self._db.execute("SELECT object, text FROM texts").fetchall()))

    def get(self, object: str) -> str | None:
        """One text; `None` if there is none."""
        row = cast(
            "tuple[str] | None", self._db.execute("SELECT text FROM texts WHERE object = ?", (object,)).fetchone()
        )
        return row and row[0]

    def edit(self, object: str, text: str | None) -> None:
        """Change a text behind everybody's back; `None` removes it."""
        if text is None:
            self._db.execute("DELETE FROM texts WHERE object = ?", (object,))
        else:
            self._db.execute("INSERT OR REPLACE INTO texts VALUES (?, ?)", (object, text))

    def notes(self, kind: str = "note") -> dict[str, str]:
        """What was posted to the board, by id."""
        rows = self._db.execute("SELECT id, text FROM notes WHERE kind = ?", (kind,)).fetchall()
        return dict(cast("list[tuple[str, str]]", rows))

    def pin(self, note_id: str, kind: str, text: str) -> None:
        """Put something on the board; the same id twice is the same note."""
        self._db.execute("INSERT OR IGNORE INTO notes VALUES (?, ?, ?)", (note_id, kind, text))

    def unpin(self, note_id: str) -> bool:
        """Take something off the board; whether it was there."""
        return self._db.execute("DELETE FROM notes WHERE id = ?", (note_id,)).rowcount > 0

    # -- the port ----------------------------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        await self.step("look")
        return [self._state(self.get(object)) for object in objects]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        await self.step("swap")
        texts = [await self._text(effect.after) for effect in effects]
        with self._transaction():
            found = [self._state(self.get(effect.object)) for effect in effects]
            last = {effect.object: effect.after for effect in effects}
            if all(state.same(last[effect.object]) for effect, state in zip(effects, found, strict=True)):
                return Swapped(tuple(effects), already=True)
            for effect, text in zip(effects, texts, strict=True):
                now = self.get(effect.object)
                if not self._state(now).same(effect.before):
                    self._db.execute("ROLLBACK")
                    return Drifted(tuple(found), f"{effect.object} is not as it was: somebody changed it.")
                self._keep(now)
                self.edit(effect.object, text)
        for effect in effects:
            self.unstage(effect.after)
        await self.step("swapped")
        return Swapped(tuple(effects))

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        effects: list[Effect] = []
        blobs: dict[str, bytes] = {}
        now = {effect.object: state for effect, state in zip(wanted, present, strict=True)}
        for effect in wanted:
            there = now[effect.object]
            if there.same(effect.before):
                goal = effect.after
            elif there.same(effect.after):
                goal = there
            else:
                texts = [await self._text(state) for state in (effect.before, effect.after, there)]
                merged = merge_texts(*texts)
                if merged is CLASH:
                    return Clash(f"{effect.object} was changed in the same place by somebody else.")
                goal, more = self.image(cast("str | None", merged))
                blobs.update(more)
            effects.append(Effect(system=self.name, object=effect.object, before=there, after=goal))
            now[effect.object] = goal
        return Merged(tuple(effects), tuple(blobs.items()), "Only our change was removed; the others' stay.")

    async def describe(self, effect: Effect) -> Preview:
        before, after = await self._text(effect.before), await self._text(effect.after)
        lines = [(text or "").splitlines() for text in (before, after)]
        diff = list(difflib.unified_diff(lines[0], lines[1], "before", "after", lineterm=""))
        added = sum(line.startswith("+") for line in diff[2:])
        removed = sum(line.startswith("-") for line in diff[2:])
        verb = {"created": "create", "changed": "change", "deleted": "delete", "unchanged": "leave"}[effect.verb]
        return Preview(f"{verb} {effect.object} ({added} lines added, {removed} removed)", "\n".join(diff))

    async def read(self, state: State) -> bytes | None:
        text = await self._text(state)
        return None if text is None else text.encode("utf-8", "surrogatepass")

    async def write(self, object: str, content: bytes, present: State) -> Effect:
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise Refused(f"{object} holds text, and this is none", advice="Send UTF-8.") from error
        self._keep(text)
        after = self._state(text)
        return Effect(system=self.name, object=object, before=present, after=after)

    async def beside(self, effect: Effect) -> Effect:
        taken = self.texts()
        names = (f"{effect.object} (earlier{f' {count}' if count else ''})" for count in range(len(taken) + 1))
        free = next(name for name in names if name not in taken)
        return Effect(system=self.name, object=free, before=ABSENT, after=effect.after)

    def ancestors(self, object: str) -> Sequence[str]:
        parts = object.split("/")
        return ["/".join(parts[:end]) for end in range(len(parts) - 1, 0, -1)]

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        kept = {state.digest for state in keep}
        oldest = time.time_ns() - older_than_ns
        rows = self._db.execute("SELECT digest, length(text) FROM kept WHERE at < ?", (oldest,)).fetchall()
        loose = [(digest, size) for digest, size in cast("list[tuple[str, int]]", rows) if digest not in kept]
        self._db.executemany("DELETE FROM kept WHERE digest = ?", [(digest,) for digest, _ in loose])
        return sum(size for _, size in loose)

    # -- for the tools ---------------------------------------------------------------------------------------------------

    def image(self, text: str | None) -> tuple[State, Mapping[str, bytes]]:
        """The state of a text, with what has to be stored for it along with the intent."""
        state, data = self._state(text), _bytes(text)
        if self.objects is None or len(data) <= INLINE or len(data) > SMALL:
            return state, {}
        name, blobs = self.objects.small(data)
        return state.model_copy(update={"objects": (name,), "ref": {}}), blobs

    async def stored(self, text: str | None) -> tuple[State, Mapping[str, bytes]]:
        """`image`, for texts of any size: what is too large to travel with the intent is stored at once."""
        data = _bytes(text)
        if self.objects is None or len(data) <= SMALL:
            return self.image(text)
        return self._state(text).model_copy(update={"objects": (await self.objects.put(data),)}), {}

    def stage(self, text: str) -> State:
        """The state of a text that is about to be swapped in, which nobody else can see yet."""
        state = self._state(text)
        if not state.ref:
            self._staged[state.digest] = text
        return state

    def unstage(self, state: State) -> None:
        """Forget a text that was staged."""
        self._staged.pop(state.digest, None)

    async def step(self, name: str) -> None:
        """Tell the test that we are here."""
        waiting = self.on_step(name)
        if inspect.isawaitable(waiting):
            await waiting

    def _state(self, text: str | None) -> State:
        if text is None:
            return ABSENT
        data = _bytes(text)
        digest = f"blake3:{blake3(data).hexdigest()}"
        inline = self.objects is None or len(data) <= INLINE
        ref: dict[str, JsonValue] = {"text": text} if inline else {}
        return State(digest=digest, kind="text", content=digest, size=len(data), ref=ref)

    def _keep(self, text: str | None) -> None:
        state = self._state(text)
        if text is not None and not state.ref:
            self._db.execute("INSERT OR REPLACE INTO kept VALUES (?, ?, ?)", (state.digest, text, time.time_ns()))

    async def _text(self, state: State) -> str | None:
        if state.absent:
            return None
        text = state.ref.get("text")
        if isinstance(text, str):
            return text
        if state.digest in self._staged:
            return self._staged[state.digest]
        row = self._db.execute("SELECT text FROM kept WHERE digest = ?", (state.digest,)).fetchone()
        if row is not None:
            return cast("tuple[str]", row)[0]
        for candidate in self.texts().values():
            if self._state(candidate).same(state):
                return candidate
        if state.objects and self.objects is not None:
            try:
                return (await self.objects.get(state.objects[0])).decode("utf-8", "surrogatepass")
            except ObjectError as error:
                raise Refused(
                    f"the stored text {state.objects[0]} cannot be read: {error}", advice=error.advice
                ) from error
        raise Refused("the text of this state was not kept", advice="Choose theirs, or write the text anew.")

    @contextmanager
    def _transaction(self) -> Generator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        if self._db.in_transaction:
            self._db.execute("COMMIT")


def _bytes(text: str | None) -> bytes:
    return (text or "").encode("utf-8", "surrogatepass")


def merge_texts(base: str | None, wanted: str | None, present: str | None) -> str | object | None:
    """Three-way merge: JSON objects field by field, other texts line by line. Pure.

    :returns: the merged text, `None` if nothing is left, or `CLASH` if it cannot be done without losing a change.
    """
    if base is None or present is None:
        return CLASH
    sides = [_fields(text) for text in (base, wanted, present)]
    if any(side is None for side in sides):
        return CLASH if wanted is None else _merge_lines(base, wanted, present)
    old, new, there = cast("list[dict[str, str]]", sides)
    merged = dict(there)
    for field in old.keys() | new.keys():
        if old.get(field) == new.get(field) or there.get(field) == new.get(field):
            continue
        if there.get(field) != old.get(field):
            return CLASH
        if field in new:
            merged[field] = new[field]
        else:
            merged.pop(field)
    if wanted is None and not merged:
        return None
    return json.dumps({field: json.loads(value) for field, value in merged.items()}, sort_keys=True, ensure_ascii=False)


def _merge_lines(base: str, wanted: str, present: str) -> str | object:
    from takeback.tools.files.merge import merge_text

    merged = merge_text(_bytes(base), _bytes(wanted), _bytes(present)).merged
    return CLASH if merged is None else merged.decode("utf-8", "surrogatepass")


def _fields(text: str | None) -> dict[str, str] | None:
    """The fields of a JSON object, each value in one fixed spelling (so that 1 and true are not the same)."""
    if text is None:
        return {}
    try:
        value: object = json.loads(text, object_pairs_hook=_distinct)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, object]", value)
    return {field: json.dumps(content, sort_keys=True) for field, content in fields.items()}


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a field stands there twice")
    return dict(pairs)
