"""What each caller last saw of each object: so that an agent does not overwrite an edit it has not seen.

In memory only: forgetting is harmless (the compare-and-swap of the act itself still holds), remembering costs nothing on disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from takeback.journal.events import Caller
from takeback.journal.states import Effect
from takeback.tools.contract import EVERYTHING

LIMIT = 20_000
FOLDERS = frozenset({"directory", "rows", "table", "database"})
"""Kinds of objects that are seen by looking at what is in them."""
NOT_HELD = frozenset({"opaque", "sequence"})
"""Kinds of objects that nobody reads before acting: what nobody can look at, and counters."""


class Seen:
    """Content digests by (principal, client, system, object), the oldest forgotten first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._digests: OrderedDict[tuple[str, str, str, str], str] = OrderedDict()

    def last(self, caller: Caller, system: str, object: str) -> str | None:
        """What the caller last saw there, if that is remembered."""
        return self._digests.get((caller.principal, caller.client, system, object))

    def note(self, caller: Caller, shown: Mapping[tuple[str, str], str]) -> None:
        """The caller was shown these (`EVERYTHING`: whatever is in the object, so it is held to nothing older)."""
        for (system, object), digest in shown.items():
            if digest == EVERYTHING:
                self._forget_below(system, object, caller)
                continue
            key = (caller.principal, caller.client, system, object)
            self._digests[key] = digest
            self._digests.move_to_end(key)
        while len(self._digests) > self._limit:
            self._digests.popitem(last=False)

    def note_effects(self, caller: Caller, effects: Iterable[Effect]) -> None:
        """The caller made these itself, and so knows them.

        Not so for folders: their digests change with whatever the caller does inside, and what was seen inside is elsewhere
        (or nowhere) once the folder is moved or deleted.
        """
        made = [
            effect for effect in effects if effect.after.kind not in NOT_HELD and effect.before.kind not in NOT_HELD
        ]
        self._forget_folders(made)
        self.note(
            caller,
            {
                (effect.system, effect.object): effect.after.content or effect.after.digest
                for effect in made
                if not _is_folder(effect)
            },
        )

    def forget(self, effects: Iterable[Effect]) -> None:
        """These were taken back: nobody is held to what they saw before."""
        gone = list(effects)
        places = {(effect.system, effect.object) for effect in gone}
        for key in [key for key in self._digests if key[2:] in places]:
            del self._digests[key]
        self._forget_folders(gone)

    def _forget_folders(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if _is_folder(effect):
                self._forget_below(effect.system, effect.object)

    def _forget_below(self, system: str, object: str, caller: Caller | None = None) -> None:
        below = (f"{object}/", f"{object}\\")
        for key in [
            key
            for key in self._digests
            if key[2] == system
            and (key[3] == object or key[3].startswith(below))
            and (caller is None or key[:2] == (caller.principal, caller.client))
        ]:
            del self._digests[key]


def _is_folder(effect: Effect) -> bool:
    return effect.before.kind in FOLDERS or effect.after.kind in FOLDERS
