"""Contents of one file that follow each other, made ready so that a single exchange puts out the last one.

Each is made in a slot of the trash, as if the one before it had been put out. The exchange brings what stood there into the
slot of the last one, so from then on each act finds what was there before it in the slot of the act before it: file, trash and
refs are to the bit what they would be, had each been exchanged by itself. Only that nobody has seen those in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import JsonValue

from takeback.journal.states import Effect, State, altered
from takeback.tools.files.drafting import Draft
from takeback.tools.files.fingerprint import measure
from takeback.tools.files.paths import Place
from takeback.tools.files.staging import Stager
from takeback.tools.files.steps import side_ref

_WHERE: Final = ("slot", "trash")


class InPlace(Exception):
    """The file has to be changed where it is, which is no exchange. Nothing was staged."""


def stage_versions(stager: VersionStager, place: Place, contents: Sequence[bytes]) -> list[Draft]:
    """Make the contents ready; a draft each. The file's effect is the last one of each draft.

    :raises InPlace: they can only be written one after the other.
    :raises Refused, OSError: as `Stager.write`.
    """
    drafts = [Draft() for _ in contents]
    try:
        stager.write(place, contents[0], create_parents=True, draft=drafts[0])
        for before, draft, content in zip(drafts, drafts[1:], contents[1:], strict=False):
            stager.follow(place, before, content, draft)
        if any(side_ref(draft.effects[-1]).get("in_place") for draft in drafts):
            raise InPlace
    except BaseException:
        for draft in drafts:
            stager.discard(draft)
        raise
    where = [_where(draft.effects[-1]) for draft in drafts]
    for draft, slot in zip(drafts, (where[-1], *where), strict=False):
        effect = draft.effects[-1]
        draft.effects[-1] = altered(effect, before=_at(effect.before, slot), after=_at(effect.after, slot))
    return drafts


class VersionStager(Stager):
    """Prepares a content that follows one which is staged itself."""

    def follow(self, place: Place, before: Draft, content: bytes, draft: Draft) -> None:
        """A file with this content, instead of what another draft has staged."""
        said = side_ref(before.effects[-1])
        slot = self._trashes.slot(dict(said))
        if said.get("in_place") or slot is None:
            raise InPlace
        with self._guarded(place, draft):
            staged = measure(self._calls, slot.folder, slot.name, keep=True)
            self._new_file(place, self._bench.parent(place), staged, content, draft)


def at_once(acts: Sequence[Sequence[Effect]]) -> tuple[Effect, ...]:
    """The effects that bring such acts about in one step."""
    first, last = acts[0][-1], acts[-1][-1]
    return (*acts[0][:-1], altered(first, after=_at(last.after, _where(first))))


def each_of(acts: Sequence[Sequence[Effect]], made: Sequence[Effect]) -> list[tuple[Effect, ...]]:
    """What each of the acts did, of what a swap has made of all of them.

    The folder's time is as the first one found it and left it; those after it left it as it was.
    """
    seen = made[-1]
    common = {key: value for key, value in side_ref(seen).items() if key in (*_WHERE, "dir")}
    folder = common.get("dir")
    left = folder.get("left") if isinstance(folder, dict) else None
    still: dict[str, JsonValue] = {"dir": {"was": left, "left": left}} if "dir" in common else {}
    told = [(*made[:-1], altered(acts[0][-1], before=seen.before, after=_at(acts[0][-1].after, common)))]
    for number, act in enumerate(acts[1:], start=2):
        after = seen.after if number == len(acts) else act[-1].after
        where = {**_where(act[-1]), **still}
        told.append((altered(act[-1], before=_at(act[-1].before, where), after=_at(after, where)),))
    return told


def _where(effect: Effect) -> dict[str, JsonValue]:
    said = side_ref(effect)
    return {key: said[key] for key in _WHERE if key in said}


def _at(state: State, where: Mapping[str, JsonValue]) -> State:
    return altered(state, ref={**state.ref, **where})
