"""Where messages are: at the spot that is known, or wherever somebody moved them since. Nothing here changes a mailbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from blake3 import blake3
from pydantic import JsonValue

from takeback.tools.email.imap.names import Spot, spot_of
from takeback.tools.email.imap.remap import Known, Remap
from takeback.tools.email.imap.wire import Row, SaidNo, Wire
from takeback.tools.email.port import Placement
from takeback.tools.email.reading import head_of
from takeback.tools.system import Refused

MEASURED: Final = 64 * 1024
"""So many first bytes of a message make its fingerprint, with its size: a folder of attachments is not fetched to move it."""
MOST_ALIKE: Final = 200
"""Candidates that are compared; a folder with more messages of one Message-ID is not a mailbox that anybody works in."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A message that is there."""

    known: Known
    """With the spot where it is now."""
    flags: frozenset[str]
    copies: tuple[Spot, ...] = ()
    """Copies that takeback had made before it was interrupted, on a server that cannot move in one step."""
    unsure: str = ""
    """Why nobody can tell whether it is this message."""

    @property
    def placement(self) -> Placement:
        """As the port says it."""
        # neither where it was nor where it goes: what was begun has to be finished
        folder = f"{self.known.spot.folder} + {self.copies[0].folder}" if self.copies else self.known.spot.folder
        known = self.known
        ref: dict[str, JsonValue] = {"unsure": self.unsure} if self.unsure else ref_of(known.whole)
        return Placement(folder, self.flags, known.date_ns, known.digest, known.size, ref)


def digest_of(size: int, start: bytes) -> str:
    """Fingerprint of a message by its size and its first bytes. Content never changes under a number (RFC 3501)."""
    return f"imap:{blake3(b'%d ' % size + start[:MEASURED]).hexdigest()}"


def digest_of_content(content: bytes) -> str:
    """The same of bytes that are at hand."""
    return digest_of(len(content), content)


def whole_of(content: bytes) -> str:
    """Fingerprint of all bytes."""
    return f"blake3:{blake3(content).hexdigest()}"


def ref_of(whole: str) -> dict[str, JsonValue]:
    """What a placement says beyond itself: of a message that takeback put there, the fingerprint of all its bytes."""
    return {"whole": whole} if whole else {}


class Finding:
    """Looks for messages over one connection."""

    def __init__(self, wire: Wire, remap: Remap) -> None:
        self.wire, self.remap = wire, remap

    def find(self, keys: Sequence[str]) -> dict[str, Seen | None]:
        """Each message, wherever it is.

        :raises Refused: somebody moved one, and nobody can tell where to.
        """
        found = self.look(keys)
        for seen in found.values():
            if seen is not None and seen.unsure:
                raise Refused(f"A message was moved by another program: {seen.unsure}.", advice="Settle it by hand.")
        return found

    def look(self, keys: Sequence[str]) -> dict[str, Seen | None]:
        """The same, with those of which nobody can tell."""
        rows = self.remap.get(keys)
        spots: dict[str, Spot] = {}
        for key in keys:
            spot = rows[key].spot if key in rows else spot_of(key)
            if spot is not None and spot.uid > 0:
                spots[key] = spot
        found: dict[str, Seen | None] = dict.fromkeys(keys)
        for folder in dict.fromkeys(spot.folder for spot in spots.values()):
            own = {key: spot for key, spot in spots.items() if spot.folder == folder}
            found.update(self._in_folder(folder, own, rows))
        for key, known in rows.items():
            if found[key] is None:
                found[key] = self._trace(known)
        return found

    def arrived(self, known: Known, folder: str) -> list[tuple[Spot, frozenset[str]]]:
        """Messages like it that came into the folder since it was last changed, with their flags."""
        floor = (self.remap.floors(known.key) or {}).get(folder)
        return [(one.spot, row.flags) for one, row in self._alike(known, folder, floor)]

    def _in_folder(self, folder: str, spots: Mapping[str, Spot], rows: Mapping[str, Known]) -> dict[str, Seen]:
        try:
            box = self.wire.open(folder)
        except SaidNo:
            return {}  # deleted or renamed
        here = {key: spot for key, spot in spots.items() if spot.validity == box.validity}
        known = {spot.uid for key, spot in here.items() if key in rows}
        fetched = self.wire.rows(sorted(known))
        fetched |= self.wire.rows(sorted({spot.uid for spot in here.values()} - known), body=MEASURED)
        found: dict[str, Seen] = {}
        for key, spot in here.items():
            row = fetched.get(spot.uid)
            if row is not None:
                one = replace(rows[key], spot=spot) if key in rows else measured(key, spot, row)
                found[key] = Seen(one, row.flags)
        for key, seen in found.items():
            if seen.known.heading:
                found[key] = replace(seen, copies=tuple(self._copies(seen.known)))
        return found

    def _copies(self, known: Known) -> list[Spot]:
        """Copies of it in the folder that it was being copied to."""
        floor = (self.remap.floors(known.key) or {}).get(known.heading)
        try:
            return [one.spot for one, _ in self._alike(known, known.heading, floor)]
        except SaidNo:
            return []

    def _trace(self, known: Known) -> Seen | None:
        """A message that is not where it was: what appeared anywhere since, and is like it in every byte that was measured."""
        if known.spot.uid == 0 and not known.whole:
            return None
        floors = self.remap.floors(known.key)
        found: list[tuple[Known, Row]] = []
        for listed, status in self.wire.statuses():
            floor = None if floors is None else floors.get(listed.name)
            if floor is not None and floor[0] == status.get("UIDVALIDITY") and floor[1] == status.get("UIDNEXT"):
                continue  # nothing came into it since
            try:
                found += self._alike(known, listed.name, floor)
            except SaidNo:
                continue  # deleted just now
        if len(found) > 1 and floors is not None:
            # where takeback itself put it is where it is, whatever copies somebody made since
            found = [each for each in found if each[0].spot.folder == known.heading] or found
        if not found:
            return None
        one, row = found[0]
        folders = ", ".join(dict.fromkeys(each.spot.folder for each, _ in found))
        unsure = ""
        if floors is None:
            unsure = f"one like it lies in {folders}, and what would tell whether it is the same one was lost"
        elif len(found) > 1:
            unsure = f"{len(found)} messages could be it, in {folders}"
        return Seen(one, row.flags, unsure=unsure)

    def _alike(self, known: Known, folder: str, floor: tuple[int, int] | None) -> list[tuple[Known, Row]]:
        box = self.wire.open(folder)
        first = floor[1] if floor is not None and floor[0] == box.validity else 1
        named = known.message_id.isascii() and known.message_id.isprintable() and known.message_id
        what = ["HEADER", "MESSAGE-ID", known.message_id] if named else _of_size(known.size)
        # `n:*` always names the last message too, whatever its number
        uids = [uid for uid in self.wire.search(["UID", f"{first}:*", *what]) if uid >= first]
        rows = self.wire.rows(uids[-MOST_ALIKE:])
        uids = [uid for uid, row in rows.items() if row.size == known.size and row.date_ns == known.date_ns]
        return [
            (replace(known, spot=Spot(folder, box.validity, uid)), row)
            for uid, row in self.wire.rows(uids, body=MEASURED).items()
            if digest_of(row.size, row.body) == known.digest
        ]


def measured(key: str, spot: Spot, row: Row) -> Known:
    """What is known of a message from its row, which holds its first bytes."""
    message_id = head_of(row.body).message_id
    return Known(key, spot, row.size, row.date_ns, digest_of(row.size, row.body), message_id)


def _of_size(size: int) -> list[object]:
    return ["SMALLER", size + 1, "LARGER", size - 1] if size > 0 else ["SMALLER", 1]
