"""Removing our change where somebody else changed the object since: what merges, and what clashes.

Theirs always survives. Metadata merges field by field (where they changed it, theirs stays), text by lines, a moved file goes
back as they edited it, and a folder that we made stays while something of theirs is in it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from pydantic import JsonValue

from takeback.checkpoints.objects import ObjectError, ObjectStore
from takeback.journal.states import Effect, State
from takeback.tools.files.calls import OPEN_READ
from takeback.tools.files.drafting import Draft, Limits, owner_and_mode
from takeback.tools.files.fingerprint import Owner, content_digest, way_of
from takeback.tools.files.held import close
from takeback.tools.files.merge import merge_text
from takeback.tools.files.moving import moved_from
from takeback.tools.files.paths import RESERVED, escape
from takeback.tools.files.reading import Reader, standing
from takeback.tools.files.staging import Stager
from takeback.tools.files.steps import side_ref, why_not_to_be_had
from takeback.tools.files.workbench import Workbench
from takeback.tools.system import Clash, Merged, TargetError

_SQLITE: Final = b"SQLite format 3\0"
"""How every SQLite file begins (https://www.sqlite.org/fileformat.html)."""


class _Clashes(Exception):
    def __init__(self, why: str, proposal: State | None = None) -> None:
        super().__init__(why)
        self.proposal = proposal


def reconcile(
    bench: Workbench,
    reader: Reader,
    objects: ObjectStore,
    limits: Limits,
    wanted: Sequence[Effect],
    present: Sequence[State],
) -> Merged | Clash:
    """Decide for one action. Runs in a worker thread; stages merged files, changes nothing that others see."""
    return _Reconciler(bench, reader, objects, limits, wanted, present).decide()


class _Reconciler:
    def __init__(
        self,
        bench: Workbench,
        reader: Reader,
        objects: ObjectStore,
        limits: Limits,
        wanted: Sequence[Effect],
        present: Sequence[State],
    ) -> None:
        self._bench, self._reader = bench, reader
        self._stager = Stager(bench, objects, limits)
        self._wanted = list(wanted)
        self._present = {effect.object: state for effect, state in zip(wanted, present, strict=True)}
        self._draft = Draft()
        self._words: list[str] = []
        self._made: dict[str, Effect] = {}

    def decide(self) -> Merged | Clash:
        try:
            self._moves()
            folders = [effect for effect in self._wanted if self._removes_folder(effect)]
            for effect in self._wanted:
                if effect.object not in self._made and effect not in folders:
                    self._made[effect.object] = self._one(effect)
            for effect in sorted(folders, key=lambda each: -each.object.count(os.sep)):
                self._made[effect.object] = self._folder(effect)
        except _Clashes as clash:
            self._stager.discard(self._draft)
            return Clash(str(clash), clash.proposal)
        effects = tuple(self._made[effect.object] for effect in self._wanted)
        if all(effect.before.same(effect.after) for effect in effects) and self._words:
            return Clash(" ".join(self._words))
        return Merged(effects, tuple(self._draft.blobs.items()), " ".join(self._words))

    def _shown(self, object_id: str) -> str:
        return self._bench.names.locate(object_id).shown

    # -- moves -----------------------------------------------------------------------------------------------------------

    def _moves(self) -> None:
        for (source, _), pair in moved_from(self._wanted).items():
            if len(pair) != 2:
                continue
            first, second = pair if pair[0].object == source else (pair[1], pair[0])
            start, end = (first, second) if first.after.absent else (second, first)
            here, there = self._present[start.object], self._present[end.object]
            if here.same(start.after) and there.same(end.after):
                self._made[start.object] = start.model_copy(update={"before": here, "after": here})
                self._made[end.object] = end.model_copy(update={"before": there, "after": there})
                continue
            if not there.same(end.before):
                raise _Clashes(f"Something else stands at {self._shown(end.object)} now.")
            if here.absent:
                raise _Clashes(f"{self._shown(start.object)} was deleted by somebody else.")
            if here.kind != start.before.kind:
                raise _Clashes(f"Something else stands at {self._shown(start.object)} now.")
            moving = here.model_copy(update={"ref": {**start.before.ref}})
            lies: JsonValue = here.ref.get("lies") or {**here.ref, "at": start.object}
            arriving = here.model_copy(update={"ref": {**end.after.ref, "lies": lies}})
            self._made[start.object] = start.model_copy(update={"before": moving})
            self._made[end.object] = end.model_copy(update={"after": arriving})
            if not here.same(start.before):
                self._words.append(
                    f"{self._shown(start.object)} was changed by somebody else and goes back as they left it."
                )

    # -- files -----------------------------------------------------------------------------------------------------------

    def _one(self, effect: Effect) -> Effect:
        here, shown = self._present[effect.object], self._shown(effect.object)
        if here.same(effect.after):
            return effect.model_copy(update={"before": here, "after": here})
        if here.same(effect.before):
            return self._possible(effect)
        if effect.before.absent:
            raise _Clashes(f"Somebody else put something at {shown} after it had been deleted.")
        if here.absent:
            raise _Clashes(f"{shown} was deleted by somebody else.")
        if self._database(effect.object):
            made = "made" if effect.after.absent else "written"
            raise _Clashes(
                f"{shown} was {made} by this action and is a database that has been written to since; taking SQL back restores"
                " what a database says, not its bytes, so it is not touched."
            )
        if effect.after.absent:
            raise _Clashes(f"{shown} was made by this action and changed by somebody else since.")
        if not here.kind == effect.before.kind == effect.after.kind == "file":
            raise _Clashes(f"{shown} is something else now.")
        return self._file(effect, here, shown)

    def _database(self, object_id: str) -> bool:
        """Whether a SQLite database stands there: the same run may have changed it by SQL."""
        place = self._bench.names.locate(object_id)
        with suppress(OSError, TargetError):
            parent = self._bench.parent(place)
            if parent is not None:
                fd = self._bench.calls.open_file(parent, place.name, OPEN_READ)
                try:
                    return os.read(fd, len(_SQLITE)) == _SQLITE
                finally:
                    close(fd)
        return False

    def _possible(self, effect: Effect) -> Effect:
        """The effect as it is wanted; nobody else has changed the object, but what it needs may be gone."""
        if not side_ref(effect).get("in_place"):
            place = self._bench.names.locate(effect.object)
            above = self._bench.names.parent(place)
            made = above is not None and any(other.object == above.object for other in self._wanted)
            if self._bench.parent(place) is None and not effect.after.absent and not made:
                raise _Clashes(f"The folder of {place.shown} is gone.")
            why = why_not_to_be_had(self._bench, effect)
            if why is not None:
                raise _Clashes(why)
        return effect

    def _file(self, effect: Effect, here: State, shown: str) -> Effect:
        ours = self._reader.content(effect.after)
        if ours is None or here.content is None:
            raise _Clashes(f"{shown} was changed by somebody else and is too large to be merged.")
        place = self._bench.names.locate(effect.object)
        parent = self._bench.parent(place)
        theirs = standing(self._bench, place, here) if parent else None
        if theirs is None and set(here.ref) != {"at"}:
            raise _Clashes(f"{shown} can only be merged after the steps before this one: take back once more then.")
        if theirs is None or theirs.data is None:
            raise _Clashes(f"{shown} is being changed by somebody else right now.")
        owner = self._owner(effect, theirs.stat)
        if theirs.state.content == effect.before.content:
            merged, words = ours, f"Somebody else changed the mode or time of {shown}; that stays."
        else:
            base = self._reader.content(effect.before)
            if base is None:
                raise _Clashes(f"{shown} was changed by somebody else, and what this action left is not kept.")
            found = merge_text(base, ours, theirs.data)
            if found.merged is None:
                raise _Clashes(found.why or f"{shown} was changed at the same place.", self._proposal(found.proposal))
            merged, words = found.merged, f"Somebody else's changes to {shown} stay; only this action's are removed."
        if merged == theirs.data and owner is None:
            # what is wanted back stands there already: written once more, it would no longer be what a later act left
            return effect.model_copy(update={"before": here, "after": here})
        self._words.append(words)
        if not self._stager.merged(place, here, merged, self._draft, owner=owner):
            raise _Clashes(f"{shown} is being changed by somebody else right now.")
        return self._draft.effects[-1]

    @staticmethod
    def _owner(effect: Effect, theirs: os.stat_result | None) -> Owner | None:
        """Where the act itself changed mode or owner too (a copy over a file), each field on its own; `None`: as it is now."""
        base: Any = effect.before.ref.get("meta")
        ours: Any = effect.after.ref.get("meta")
        if base is None or ours is None or theirs is None:
            return None
        present: Any = owner_and_mode(theirs)
        mode, uid, gid = (
            our if their == bottom else their for bottom, our, their in zip(base, ours, present, strict=True)
        )
        return None if [mode, uid, gid] == present else (int(mode), int(uid), int(gid))

    def _proposal(self, content: bytes | None) -> State | None:
        if content is None:
            return None
        try:
            name = self._bench.put(content)
        except ObjectError:
            return None
        digest = content_digest(content)
        return State(
            digest=digest,
            kind="file",
            content=digest,
            size=len(content),
            objects=(name,),
            ref={"base": {"object": name}},
        )

    # -- folders ---------------------------------------------------------------------------------------------------------

    @staticmethod
    def _removes_folder(effect: Effect) -> bool:
        return effect.after.absent and way_of(effect.before.digest) == "dir"

    def _folder(self, effect: Effect) -> Effect:
        place = self._bench.names.locate(effect.object)
        parent = self._bench.parent(place)
        now = self._bench.look(place, effect.before)
        if now.absent or parent is None:
            return effect.model_copy(update={"before": effect.after, "after": effect.after})
        stays = effect.model_copy(update={"before": now, "after": now})
        if now.kind != "directory" or not now.same(effect.before):
            self._words.append(f"{place.shown} was changed by somebody else and stays.")
            return stays
        going = {made.object for made in self._made.values() if made.after.absent and not made.before.same(made.after)}
        with self._bench.calls.open_folder(parent, place.name) as folder:
            left = [
                name
                for name in self._bench.calls.names(folder)
                if name != RESERVED and os.path.join(place.object, escape(name)) not in going
            ]
        if not left:
            return effect.model_copy(update={"before": now.model_copy(update={"ref": effect.before.ref})})
        self._words.append(f"The folder {place.shown} is not empty and stays.")
        return stays
