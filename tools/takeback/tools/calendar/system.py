"""The target system of all calendars: an object is one resource, its state the raw bytes."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import ClassVar, Final

from blake3 import blake3
from pydantic import JsonValue

from takeback.checkpoints.objects import SMALL, ObjectError, ObjectStore
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.calendar import names
from takeback.tools.calendar.caldav.content import events as meaning
from takeback.tools.calendar.caldav.content import extensions
from takeback.tools.calendar.itip_objects import highest_sequence, with_sequence
from takeback.tools.calendar.lines import NotICalendar, parse, unescape
from takeback.tools.calendar.merge import Met, merge_events, only_counted
from takeback.tools.calendar.port import CalendarStore, Changed, Resource
from takeback.tools.calendar.vdir import VdirStore
from takeback.tools.calendar.when import start_of
from takeback.tools.system import (
    Clash,
    Drifted,
    Merged,
    Preview,
    Refused,
    Swapped,
    TargetError,
    TargetSystem,
    Unavailable,
)
from takeback.tools.titles import titled

LEFT: Final = 10_000
"""Writes of this process that are remembered with how the server left them."""
Opener = Callable[[], CalendarStore]
DRAFTS_BYTES: Final = 64 * 1024 * 1024
"""Of merged events that a plan knows and nobody has stored yet."""


class NoCalendar(Refused):
    """There is no such calendar (any more)."""

    code = "not_found"
    advice = "Call list_calendars to see which there are."


class CalendarSystem(TargetSystem):
    """Events of all calendars, by `CALENDAR//RESOURCE.ics`."""

    name = names.SYSTEM
    side_by_side: ClassVar[bool] = False

    def __init__(self, calendars: Mapping[str, Opener], objects: ObjectStore) -> None:
        """
        :param calendars: what opens each calendar, by its name.
        """
        self.calendars, self.objects = calendars, objects
        self._open: dict[str, CalendarStore] = {}
        self._drafts: OrderedDict[str, bytes] = OrderedDict()
        self._drafts_bytes = 0
        self._left: OrderedDict[str, str] = OrderedDict()

    def store(self, calendar: str) -> CalendarStore:
        """The calendar of that name, opened if need be.

        :raises NoCalendar: there is none.
        :raises TargetError: it cannot be opened.
        """
        if calendar not in self._open:
            if calendar not in self.calendars:
                raise NoCalendar(f"There is no calendar {calendar!r}.")
            self._open[calendar] = self.calendars[calendar]()
        return self._open[calendar]

    async def close(self) -> None:
        """Let go of all of them."""
        while self._open:
            await self._open.popitem()[1].close()

    # -- the port ------------------------------------------------------------------------------------------------------------

    def rewrites(self, object: str) -> bool:
        return names.INSIDE in object and self._parse(object)[0].rewrites

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        return [self._seen(await self._resource(object), object) for object in objects]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        present = [await self._resource(effect.object) for effect in effects]
        states = [self._seen(resource, effect.object) for effect, resource in zip(effects, present, strict=True)]
        if why := await self._settled(effects, states):
            return Drifted(tuple(await self.look([effect.object for effect in effects])), why)
        if all(state.same(effect.after) for effect, state in zip(effects, states, strict=True)):
            return Swapped(tuple(effects), already=True)
        # the plan knows what was to be written; the server may have left it in its own spelling
        effects = [
            effect.model_copy(update={"before": state})
            if self._left.get(effect.before.digest) == state.digest
            else effect
            for effect, state in zip(effects, states, strict=True)
        ]
        effects = [
            await self._as_rewritten(effect, state, resource)
            for effect, state, resource in zip(effects, states, present, strict=True)
        ]
        if all(state.same(effect.after) for effect, state in zip(effects, states, strict=True)):
            return Swapped(tuple(effects), already=True)
        for effect, state in zip(effects, states, strict=True):
            # a crash may have left the first made and the second not: what is made already is no drift
            if not state.same(effect.before) and not state.same(effect.after):
                return Drifted(
                    tuple(states), f"{_capital(self._the(effect, effects))} is not as it was: somebody changed it."
                )
        wanted = [await self.bytes_of(effect.after) for effect in effects]
        for resource in present:
            if resource is not None:
                await self.objects.put(resource.data)
        made: list[tuple[Effect, Resource | None, Resource | None]] = []
        done: list[Effect] = []
        for effect, resource, state, data in zip(effects, present, states, wanted, strict=True):
            if state.same(effect.after):
                done.append(effect)
                continue
            try:
                result = await self._put(effect.object, data, resource)
            except (Refused, Unavailable):  # of this one nothing has happened, and then of none
                await self._put_back(made)
                raise
            if isinstance(result, Changed):
                await self._put_back(made)
                looked = await self.look([each.object for each in effects])
                return Drifted(
                    tuple(looked), f"{_capital(self._the(effect, effects))} was changed in the same instant."
                )
            made.append((effect, resource, result))
            await self._note(data, result)
            after = self._kept(result)
            done.append(effect.model_copy(update={"before": self._kept(resource), "after": after}))
        return Swapped(tuple(done), tuple(self._warnings(effects)))

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        effects: list[Effect] = []
        blobs: dict[str, bytes] = {}
        for effect, there in zip(wanted, present, strict=True):
            if there.same(effect.before):
                goal = effect.after
            elif there.same(effect.after):
                goal = there
            else:
                sides = [await self.bytes_of(state) for state in (effect.before, effect.after, there)]
                shown = self._the(effect, wanted)
                base, want, now = sides
                try:
                    if base is not None and now is not None and only_counted(base, now):
                        goal, more = await self._uncounted(effect.after, want, now)
                        blobs.update(more)
                        effects.append(Effect(system=self.name, object=effect.object, before=there, after=goal))
                        continue
                    if base is None or want is None or now is None:
                        return Clash(f"{_capital(shown)} was created, changed or deleted by somebody else as a whole.")
                    merged = merge_events(base, want, now)
                except NotICalendar as error:
                    return Clash(f"{_capital(shown)} cannot be merged: {error}.")
                if isinstance(merged, Met):
                    return Clash(f"Somebody else changed {merged.what} of {shown} too.")
                goal, more = await self.image(merged)
                blobs.update(more)
                if more:
                    self._draft(goal.objects[0], merged)
            effects.append(Effect(system=self.name, object=effect.object, before=there, after=goal))
        # an older act of the same plan may start from what is made here, before it has been made
        await self.objects.put_blobs(blobs)
        return Merged(tuple(effects), tuple(blobs.items()), "Only our change was removed; the others' stay.")

    async def _uncounted(self, after: State, want: bytes | None, now: bytes) -> tuple[State, Mapping[str, bytes]]:
        """What is wanted back in the place of what differs from ours in its counters alone: never with a lower SEQUENCE."""
        number = highest_sequence(now)
        if want is None or number <= highest_sequence(want):
            return after, {}
        return await self.image(with_sequence(want, number))

    async def describe(self, effect: Effect) -> Preview:
        return self.shown(effect, await self.bytes_of(effect.before), await self.bytes_of(effect.after))

    def shown(self, effect: Effect, before: bytes | None, after: bytes | None) -> Preview:
        """The effect for a person, from the bytes of both sides."""
        texts = [(data or b"").decode(errors="replace").splitlines() for data in (before, after)]
        diff = list(difflib.unified_diff(texts[0], texts[1], effect.object, effect.object, lineterm="", n=1))[:200]
        verb = {"created": "create", "changed": "change", "deleted": "delete", "unchanged": "leave"}[effect.verb]
        called = self._called(effect.object, after if after is not None else before)
        return Preview(f"{verb} {called}", "\n".join(diff))

    async def called(self, effect: Effect) -> str:
        """The event as people know it: “Standup”, Thu 3 Dec 2026 14:00 Europe/Berlin, in work (its id)."""
        sides = (effect.before,) if effect.after.absent else (effect.after, effect.before)
        for state in sides:
            if (data := await self.bytes_of(state)) is not None:
                return self._called(effect.object, data)
        return self.display(effect.object)

    def _the(self, effect: Effect, among: Sequence[Effect]) -> str:
        """An event in the reason why something did not happen to it: what is said of it names it already."""
        return "the event" if len(among) == 1 else self.display(effect.object)

    def _called(self, object: str, data: bytes | None) -> str:
        title, start = title_of(data), _start_of(data)
        known = ", ".join(filter(None, (titled(title), start)))
        try:
            calendar, resource = names.parse(object)
        except ValueError:
            return object
        return f"{known}, in {calendar} ({names.event_id(resource)})" if title else self.display(object)

    async def read(self, state: State) -> bytes | None:
        return await self.bytes_of(state)

    async def write(self, object: str, content: bytes, present: State) -> Effect:
        self._parse(object)
        try:
            check_event(content)
        except NotICalendar as error:
            raise Refused(f"This is no event: {error}.", advice="Send one whole VCALENDAR with one event.") from error
        after, blobs = await self.image(content)
        await self.objects.put_blobs(blobs)
        there = await self.bytes_of(present)
        if there is not None:
            present = present.model_copy(update={"objects": (await self.objects.put(there),)})
        return Effect(system=self.name, object=object, before=present, after=after)

    async def collect(self, keep: Collection[State], *, older_than_ns: int) -> int:
        freed = 0
        for calendar in self.calendars:
            try:
                store = self.store(calendar)
                if not isinstance(store, VdirStore):
                    continue
                for name, data in await store.leftovers(older_than_ns):
                    # what is stored is ours, or was there before; anything else is somebody's save, and lies nowhere but there;
                    # and a file that had been made, and not yet written, is nobody's
                    known = not data or await self.objects.has(self.objects.name(data))
                    if known and await store.clear(name, data):
                        freed += len(data)
            except TargetError:
                continue  # away just now; there will be a next time
        return freed

    async def newer(self, effects: Sequence[Effect], memos: Sequence[JsonValue]) -> Merged:
        """What is put back gets a SEQUENCE above all that guests were told, or they would take it for old (RFC 5546, 2.1.4)."""
        told = [number for memo in memos if isinstance(memo, dict) and isinstance(number := memo.get("sequence"), int)]
        raised: list[Effect] = []
        for effect in effects:
            data = await self.bytes_of(effect.after)
            if data is None or effect.before.same(effect.after):
                raised.append(effect)
                continue
            there = await self.bytes_of(effect.before)
            known = [highest_sequence(each) for each in (data, there) if each is not None]
            goal, blobs = await self.image(with_sequence(data, max((*told, *known)) + 1))
            await self.objects.put_blobs(blobs)
            raised.append(effect.model_copy(update={"after": goal}))
        return Merged(tuple(raised))

    def ancestors(self, object: str) -> Sequence[str]:
        calendar, inside, _ = object.partition(names.INSIDE)
        return [calendar] if inside else []

    def display(self, object: str) -> str:
        """The object as people call it: `standup in work`."""
        try:
            calendar, resource = names.parse(object)
        except ValueError:
            return object
        return f"{names.event_id(resource)} in {calendar}"

    # -- for the tools -------------------------------------------------------------------------------------------------------

    async def image(self, data: bytes) -> tuple[State, Mapping[str, bytes]]:
        """The state of these bytes, and what has to be stored for it along with the intent."""
        blobs: Mapping[str, bytes] = {}
        if len(data) <= SMALL:
            name, blobs = self.objects.small(data)
        else:
            name = await self.objects.put(data)
        return state_of(Resource("", data, "")).model_copy(update={"objects": (name,)}), blobs

    async def bytes_of(self, state: State) -> bytes | None:
        """The raw bytes of a state, stored or still in the calendar.

        :raises Refused: they are nowhere.
        """
        if state.absent:
            return None
        # what was only looked at is stored when a swap brings it out; until then it is in the calendar
        image = state.objects[0] if state.objects else state.ref.get("image")
        missing: ObjectError | None = None
        if isinstance(image, str):
            try:
                return await self.objects.get(image)
            except ObjectError as error:
                missing = error
                if image in self._drafts:
                    return self._drafts[image]
        found = await self._present(state)
        if found is None:
            raise Refused(
                f"The stored event cannot be read{f': {missing}' if missing else ''}.",
                advice=missing.advice if missing else "Choose theirs, or send the event anew.",
            ) from missing
        return found

    # -- inside --------------------------------------------------------------------------------------------------------------

    def _draft(self, name: str, data: bytes) -> None:
        """Keep what was merged for a plan: the step before may be merged into it, before anything is stored."""
        self._drafts_bytes += len(data) - len(self._drafts.pop(name, b""))
        self._drafts[name] = data
        while self._drafts_bytes > DRAFTS_BYTES:
            self._drafts_bytes -= len(self._drafts.popitem(last=False)[1])

    async def _present(self, state: State) -> bytes | None:
        object = state.ref.get("object")
        resource = await self._resource(object) if isinstance(object, str) else None
        return resource.data if resource is not None and state_of(resource).same(state) else None

    def _parse(self, object: str) -> tuple[CalendarStore, str]:
        try:
            calendar, resource = names.parse(object)
        except ValueError as error:
            raise NoCalendar(f"{object!r} names no event.") from error
        return self.store(calendar), resource

    async def _resource(self, object: str) -> Resource | None:
        if names.INSIDE not in object:
            return None  # a calendar itself, which is not followed as an object
        store, resource = self._parse(object)
        return (await store.read([resource]))[0]

    async def _as_rewritten(self, effect: Effect, state: State, resource: Resource | None) -> Effect:
        """After a crash: the effect as it was left, if what is there is what was meant, in the server's spelling."""
        if (
            resource is None
            or state.same(effect.before)
            or state.same(effect.after)
            or not self.rewrites(effect.object)
        ):
            return effect
        meant = await self.bytes_of(effect.after)
        before = await self.bytes_of(effect.before)
        there = meaning(resource.data)
        if meant is None or there != meaning(meant) or (before is not None and there == meaning(before)):
            return effect
        if extensions(resource.data) != extensions(meant):
            # taken for ours, it would be overwritten when the act is taken back
            raise TargetError(
                f"{self.display(effect.object)} holds X- properties that may be the server's or somebody's.",
                advice="Look at the event, then say whether it was changed.",
            )
        await self.objects.put(resource.data)
        return effect.model_copy(update={"after": self._kept(resource)})

    async def _settled(self, effects: Sequence[Effect], states: Sequence[State]) -> str:
        """Of what an earlier try has made already: put back what somebody had saved just before; in words what was found."""
        found: list[str] = []
        for effect, state in zip(effects, states, strict=True):
            store, resource = self._parse(effect.object)
            if not isinstance(store, VdirStore) or state.same(effect.before):
                continue
            try:
                why = await store.settle(
                    resource, await self.bytes_of(effect.before), await self.bytes_of(effect.after)
                )
            except (Refused, ObjectError):
                continue  # what it was to be is not known any more, so that no name follows from it
            found += [why] if why else []
        return " ".join(found)

    async def _put(self, object: str, data: bytes | None, expected: Resource | None) -> Resource | Changed | None:
        store, resource = self._parse(object)
        if data is not None:
            return await store.write(resource, data, expected)
        return None if expected is None else await store.remove(resource, expected)

    async def _note(self, data: bytes | None, result: Resource | None) -> None:
        """Remember how the server has left what it was given."""
        if result is None or result.data == data:
            return
        await self.objects.put(result.data)
        self._left[state_of(Resource("", data or b"", "")).digest] = state_of(result).digest
        while len(self._left) > LEFT:
            self._left.popitem(last=False)

    async def _put_back(self, made: Sequence[tuple[Effect, Resource | None, Resource | None]]) -> None:
        for effect, before, after in reversed(made):
            shown = self.display(effect.object)
            try:
                result = await self._put(effect.object, None if before is None else before.data, after)
            except (Refused, Unavailable) as error:  # it stays as it was made: nobody may take this for nothing
                raise TargetError(
                    f"{shown} was changed, what belongs to it was not, and it could not be put back: {error}",
                    advice="Look at both events; the earlier state is kept.",
                ) from error
            if isinstance(result, Changed):
                raise TargetError(
                    f"{shown} was changed by somebody else before it could be put back.",
                    advice="Look at the event; the earlier state is kept.",
                )
            await self._note(None if before is None else before.data, result)

    def _seen(self, resource: Resource | None, object: str) -> State:
        state = state_of(resource)
        if resource is None:
            return state
        return state.model_copy(update={"ref": {"object": object, "image": self.objects.name(resource.data)}})

    def _kept(self, resource: Resource | None) -> State:
        state = state_of(resource)
        return state if resource is None else state.model_copy(update={"objects": (self.objects.name(resource.data),)})

    def _warnings(self, effects: Sequence[Effect]) -> Sequence[str]:
        stores = [self._parse(effect.object)[0] for effect in effects]
        windows = sorted({window for store in stores if (window := getattr(store, "window", ""))})
        if len(effects) > 1:
            windows.append("The events were changed one after the other, not in one step.")
        return windows


def state_of(resource: Resource | None) -> State:
    """The state that a resource is."""
    if resource is None:
        return ABSENT
    digest = f"blake3:{blake3(resource.data).hexdigest()}"
    return State(digest=digest, kind="event", content=digest, size=len(resource.data))


def check_event(data: bytes) -> None:
    """Hold bytes to be one event with its overrides.

    :raises NotICalendar: they are not.
    """
    events = parse(data).parts("VEVENT")
    if not events:
        raise NotICalendar("there is no VEVENT in it")
    uids = {found.value if (found := event.line("UID")) else "" for event in events}
    if len(uids) > 1:
        raise NotICalendar("it holds several events; takeback needs one file for each")
    originals = [found.value if (found := event.line("RECURRENCE-ID")) else "" for event in events]
    if len(set(originals)) < len(originals):
        raise NotICalendar("it holds the same event, or the same occurrence, twice")
    if "" in uids or any(event.line("DTSTART") is None for event in events):
        raise NotICalendar("an event needs UID and DTSTART")


def _capital(text: str) -> str:
    """The beginning of a sentence; an id stays as it is spelt."""
    return f"T{text[1:]}" if text.startswith("the ") else text


def _start_of(data: bytes | None) -> str:
    """When an event starts, for a person; empty if it does not say."""
    try:
        events = parse(data or b"").parts("VEVENT")
        return start_of(events[0]).for_people() if events else ""
    except ValueError:
        return ""


def title_of(data: bytes | None) -> str:
    """The summary of an event, for a person."""
    try:
        events = parse(data or b"").parts("VEVENT")
    except NotICalendar:
        return ""
    found = events[0].line("SUMMARY") if events else None
    return "" if found is None else unescape(found.value)[:120].replace("\n", " ")
