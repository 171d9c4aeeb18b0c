"""What each caller last saw of each object: so that an agent does not overwrite an edit it has not seen.

In memory only: forgetting is harmless (the compare-and-swap of the act itself still holds), remembering costs nothing on disk.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping

from takeback.journal.events import Caller
from takeback.journal.states import Effect
from takeback.server.engine.graph import INSIDE, PARTIAL

LIMIT = 20_000

NEVER_SHOWN = frozenset({PARTIAL, "table", "database", "sequence"})
"""Kinds of states that no read shows, so that nobody could be told to read them again."""


class Seen:
    """Content digests by (principal, client, system, object), the oldest forgotten first."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._digests: OrderedDict[tuple[str, str, str, str], str] = OrderedDict()

    def last(self, caller: Caller, system: str, object: str) -> str | None:
        """What the caller last saw there, if that is remembered."""
        return self._digests.get((caller.principal, caller.client, system, object))

    def note(self, caller: Caller, shown: Mapping[tuple[str, str], str]) -> None:
        """The caller was shown these. An empty digest: everything in the object may have been shown, part by part."""
        for (system, object), digest in shown.items():
            if not digest:
                self._forget_within(system, object)
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
        made = [effect for effect in effects if effect.after.kind != "opaque"]
        self._forget_folders(made)
        self.note(
            caller,
            {
                (effect.system, effect.object): effect.after.content or effect.after.digest
                for effect in made
                if not _is_folder(effect) and effect.after.kind not in NEVER_SHOWN
            },
        )

    def forget(self, effects: Iterable[Effect]) -> None:
        """These were taken back: nobody is held to what they saw before."""
        gone = list(effects)
        places = {(effect.system, effect.object) for effect in gone}
        for key in [key for key in self._digests if key[2:] in places]:
            del self._digests[key]
        self._forget_folders(gone)

    def _forget_within(self, system: str, object: str) -> None:
        inside = f"{object}{INSIDE}"
        for key in [
            key for key in self._digests if key[2] == system and (key[3] == object or key[3].startswith(inside))
        ]:
            del self._digests[key]

    def _forget_folders(self, effects: Iterable[Effect]) -> None:
        for effect in effects:
            if _is_folder(effect):
                below = (f"{effect.object}/", f"{effect.object}\\")
                for key in [
                    key
                    for key in self._digests
                    if key[2] == effect.system and (key[3] == effect.object or key[3].startswith(below))
                ]:
                    del self._digests[key]


def _is_folder(effect: Effect) -> bool:
    return "directory" in (effect.before.kind, effect.after.kind)
