"""The target system of all mailboxes: messages are objects, and where they lie, with which flags, is their state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from takeback.checkpoints.objects import ObjectError, ObjectStore
from takeback.journal.states import ABSENT, Effect, State
from takeback.tools.email import states
from takeback.tools.email.maildir.folders import LARGEST
from takeback.tools.email.port import Change, MailStore, Moved
from takeback.tools.system import Clash, Drifted, Merged, Preview, Refused, Swapped, TargetError, TargetSystem
from takeback.tools.titles import mail_called

if TYPE_CHECKING:
    from takeback.tools.email.reading import Head

Opener = Callable[[], MailStore]
_HEAD: Final = 64 * 1024


class NoMailbox(Refused):
    """There is no such mailbox (any more)."""

    code = "not_found"
    advice = "Call list_mailboxes to see which there are."


class MailSystem(TargetSystem):
    """Mailboxes by name, opened when they are first used."""

    name = states.SYSTEM

    def __init__(self, configured: Mapping[str, Opener], objects: ObjectStore) -> None:
        self.configured, self.objects = configured, objects
        self._open: dict[str, MailStore] = {}

    def store(self, mailbox: str) -> MailStore:
        """The mailbox of that name.

        :raises NoMailbox: there is none.
        """
        found = self._open.get(mailbox)
        if found is None:
            if mailbox not in self.configured:
                raise NoMailbox(f"There is no mailbox {mailbox!r}.")
            found = self._open[mailbox] = self.configured[mailbox]()
        return found

    async def close(self) -> None:
        """Let go of all of them."""
        while self._open:
            await self._open.popitem()[1].close()

    # -- the port ----------------------------------------------------------------------------------------------------------

    async def look(self, objects: Sequence[str], like: Sequence[State | None] = ()) -> Sequence[State]:
        likes = list(like) or [None] * len(objects)
        wanted: dict[str, list[str]] = {}
        for object in objects:
            mailbox, key = states.parts(object)
            if key:
                wanted.setdefault(mailbox, []).append(key)
        found: dict[str, State] = {}
        for mailbox, keys in wanted.items():
            placements = await self.store(mailbox).look(keys)
            for key, placement in zip(keys, placements, strict=True):
                found[states.object_of(mailbox, key)] = states.state_of(mailbox, key, placement)
        return [_with_image(found.get(object, ABSENT), hint) for object, hint in zip(objects, likes, strict=True)]

    async def swap(self, effects: Sequence[Effect]) -> Swapped | Drifted:
        if not effects:
            return Swapped(())
        mailbox = self._mailbox(effects)
        whole = _joined(effects)
        # what is taken away has to be in the store before it goes
        kept = {object: await self._kept(effect.before, effect.after) for object, effect in whole.items()}
        changes = [await self._change(effect) for effect in whole.values()]
        made = await self.store(mailbox).change(changes)
        if isinstance(made, Moved):
            present = await self.look([effect.object for effect in effects])
            return Drifted(tuple(present), made.why)
        places = dict(zip(whole, made.keys, strict=True))
        left = [_placed_at(_kept_in(effect, kept[effect.object]), places[effect.object]) for effect in effects]
        return Swapped(tuple(left), warnings=made.warnings, already=made.already)

    async def merge(self, wanted: Sequence[Effect], present: Sequence[State]) -> Merged | Clash:
        now = {effect.object: state for effect, state in zip(wanted, present, strict=True)}
        merged: list[Effect] = []
        for effect in wanted:
            there = now[effect.object]
            goal = self._goal(effect, there)
            if isinstance(goal, str):
                which = "The message" if len(wanted) == 1 else self.display(effect.object)
                return Clash(f"{which} is left alone: {goal}.")
            merged.append(Effect(system=self.name, object=effect.object, before=there, after=goal))
            now[effect.object] = goal
        return Merged(tuple(merged), why="Only our change was taken out; what others did with the mail stays.")

    async def describe(self, effect: Effect) -> Preview:
        before, after = states.placement_of(effect.before), states.placement_of(effect.after)
        named = await self.called(effect)
        if before is None or after is None:
            side = after or before
            if side is None:
                return Preview(f"leave {named}")
            verb = "put into" if before is None else "take out of"
            return Preview(f"{verb} {_one_line(side.folder)}: {named}")
        words: list[str] = []
        if before.folder != after.folder:
            words.append(f"move from {_one_line(before.folder)} to {_one_line(after.folder)}")
        store = self.store(states.parts(effect.object)[0])
        words += [f"add {flag}" for flag in store.flag_names(after.flags - before.flags)]
        words += [f"remove {flag}" for flag in store.flag_names(before.flags - after.flags)]
        return Preview(f"{', '.join(words) or 'leave'}: {named}")

    async def called(self, effect: Effect) -> str:
        """The message as people know it: “Offer” to ann@example.org, in work (its id)."""
        head = await self._head(effect)
        if head is None:
            return self.display(effect.object)
        mailbox, key = states.parts(effect.object)
        return f"{mail_called(head.subject, (*head.to, *head.cc))}, in {mailbox} ({key})"

    async def read(self, state: State) -> bytes | None:
        if state.kind != states.KIND:
            return None
        if state.objects:
            try:
                return await self.objects.get(state.objects[0])
            except ObjectError as error:
                raise Refused(f"The stored message cannot be read: {error}", advice=error.advice) from error
        found = await self.store(str(state.ref["mailbox"])).raw(str(state.ref["key"]), LARGEST)
        return found[1] if found is not None and found[0].digest == state.content else None

    def ancestors(self, object: str) -> Sequence[str]:
        mailbox, slash, _ = object.partition("/")
        return [mailbox] if slash else []

    def display(self, object: str) -> str:
        """The object as people call it."""
        mailbox, key = states.parts(object)
        return f"message {key} in {mailbox}" if key else f"mailbox {mailbox}"

    def resolve(self, path: str) -> str:
        """The object that somebody means.

        :raises NoMailbox: it names no message.
        """
        mailbox, key = states.parts(path)
        if mailbox in self.configured and key:
            return path
        raise NoMailbox(f"{path!r} names no message in a mailbox.")

    # -- parts ---------------------------------------------------------------------------------------------------------------

    def _mailbox(self, effects: Sequence[Effect]) -> str:
        mailboxes = {states.parts(effect.object)[0] for effect in effects}
        if len(mailboxes) > 1:
            raise Refused("One action cannot change two mailboxes.", advice="Take them back one by one.")
        return mailboxes.pop()

    async def _kept(self, before: State, after: State) -> str | None:
        """Name of the stored bytes that both ways of the effect need."""
        if before.absent:
            return after.objects[0] if after.objects else None
        if not after.absent:
            return before.objects[0] if before.objects else None
        if before.objects and await self.objects.has(before.objects[0]):
            return before.objects[0]
        data = await self.read(before.model_copy(update={"objects": ()}))
        if data is None:
            return None  # not as expected: the change finds that out
        try:
            return await self.objects.put(data)
        except ObjectError as error:
            raise Refused(f"The message cannot be kept: {error}", advice=error.advice) from error

    async def _change(self, effect: Effect) -> Change:
        before, after = states.placement_of(effect.before), states.placement_of(effect.after)
        content: bytes | None = None
        stored = effect.after.objects or effect.before.objects
        if before is None and after is not None:
            if not stored:
                raise Refused("The message was not kept.", advice="Put it back by hand.")
            try:
                content = await self.objects.get(stored[0])
            except ObjectError as error:
                raise Refused(f"The stored message cannot be read: {error}", advice=error.advice) from error
        return Change(states.parts(effect.object)[1], before, after, content)

    def _goal(self, effect: Effect, there: State) -> State | str:
        if there.same(effect.before):
            return effect.after
        if there.same(effect.after):
            return there
        base, wanted, now = (states.placement_of(state) for state in (effect.before, effect.after, there))
        if now is None:
            return "somebody deleted it"
        if now.unsure:
            return f"somebody moved it, and {now.unsure}"
        if base is None or wanted is None:
            return "somebody moved or flagged it meanwhile" if base is not None else "there is one of that name again"
        mailbox, key = states.parts(effect.object)
        merged = self.store(mailbox).merged(base, wanted, now)
        if isinstance(merged, str):
            return merged
        stored = effect.after.objects or effect.before.objects
        return states.state_of(mailbox, key, merged, stored=stored[0] if stored else None)

    async def _head(self, effect: Effect) -> Head | None:
        from takeback.tools.email.reading import head_of

        mailbox, key = states.parts(effect.object)
        try:
            [head] = await self.store(mailbox).head([key], _HEAD)
            if head is None:
                stored = effect.after.objects or effect.before.objects
                head = await self.objects.get(stored[0]) if stored else None
        except (TargetError, ObjectError):
            return None  # it is described without it
        return None if head is None else head_of(head)


def _joined(effects: Sequence[Effect]) -> dict[str, Effect]:
    """One effect per object: from what is expected first to what is wanted last."""
    joined: dict[str, Effect] = {}
    for effect in effects:
        first = joined.get(effect.object)
        joined[effect.object] = effect if first is None else first.model_copy(update={"after": effect.after})
    return joined


def _kept_in(effect: Effect, stored: str | None) -> Effect:
    if stored is None:
        return effect
    sides = [
        side if side.absent or side.objects else side.model_copy(update={"objects": (stored,)})
        for side in (effect.before, effect.after)
    ]
    return effect.model_copy(update={"before": sides[0], "after": sides[1]})


def _placed_at(effect: Effect, place: str) -> Effect:
    """The journal keeps where a message went on a server that numbers it anew; this is the truth about it."""
    if effect.after.absent:
        return effect
    # of a state that is put back, the place is the one of then
    ref = {name: value for name, value in effect.after.ref.items() if name != "at"}
    if place != ref.get("key"):
        ref["at"] = place
    return effect.model_copy(update={"after": effect.after.model_copy(update={"ref": ref})})


def _with_image(state: State, hint: State | None) -> State:
    if hint is None or not hint.objects or state.content != hint.content:
        return state
    return state.model_copy(update={"objects": hint.objects})


def _one_line(text: str) -> str:
    return " ".join(text.split())
