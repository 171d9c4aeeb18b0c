"""Changes of a mailbox on a server: compared just before, conditional where the server can, read back, and taken back if a
later one of the same act cannot be made. Nothing of others is ever expunged; what nobody knows is said to be unknown.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from takeback.tools.email.imap.finding import Finding, Seen, digest_of_content, whole_of
from takeback.tools.email.imap.names import DELETED, Spot, key_of
from takeback.tools.email.imap.remap import Known, Remap
from takeback.tools.email.imap.wire import Lost, SaidNo, Wire
from takeback.tools.email.port import Change, Made, Moved, Placement
from takeback.tools.email.reading import head_of
from takeback.tools.system import Refused, TargetError, Unavailable

HALF_DONE: Final = "half_done"
"""Swapping again is safe: what is there already stays, and the rest is finished."""
NO_CONDSTORE: Final = (
    "This server cannot change flags on condition that nobody else did; they were compared just before and just after."
)
COPIED: Final = "This server cannot move messages in one step; they were copied, and then taken out where they were."
LEFT: Final = (
    "This server cannot take single messages out of a folder: what was moved or taken back also lies in its old folder,"
    " marked as deleted, until a mail program expunges that folder."
)
GMAIL: Final = "X-GM-EXT-1"
"""What only Gmail says that it can do."""
LABELS: Final = (
    "On Gmail a folder is a label: a message that had several may have lost the others,"
    " and moving it back does not bring them back."
)


class _Drift(Exception):
    """Somebody else was faster."""


class Changing:
    """One act on a mailbox."""

    def __init__(self, wire: Wire, remap: Remap, creatable: frozenset[str]) -> None:
        """
        :param creatable: folders that are made when something is put into them.
        """
        self.wire, self.remap, self.creatable = wire, remap, creatable
        self.finding = Finding(wire, remap)
        self._seen: dict[str, Seen] = {}
        self._touched: list[Change] = []
        """What a command was sent for; its outcome may be that nothing came of it."""
        self._flagged: set[str] = set()
        """Keys whose flags are changed by now."""
        self._resumed: set[str] = set()
        """Keys that this act, before it was interrupted, had changed in part."""
        self._warnings: dict[str, None] = {}

    def change(self, changes: Sequence[Change]) -> Made | Moved:
        """As `MailStore.change`.

        :raises Lost: the connection broke before anything was changed.
        """
        present = self._present(changes)
        todo = [change for change, now in zip(changes, present, strict=True) if now != change.after]
        self._resumed = {change.key for change in todo if self._between(change)}
        for change, now in zip(changes, present, strict=True):
            if change in todo and now != change.before and change.key not in self._resumed and not self._half(change):
                why = "is not as it was expected to be: somebody moved, flagged or deleted it."
                return Moved(present, f"{_told(change.key)} {why}")
        if not todo:
            return Made(self._keys(changes), already=True)
        self._check(todo)
        # of what was begun, the floors tell which copies are its own: they stay
        fresh = [self._known(change) for change in todo if not self._half(change)]
        if fresh:
            self.remap.begin(fresh, self._floors())
        try:
            return self._all(changes, todo)
        except Lost as error:
            if self._touched or self.wire.changing:
                raise not_known(self.wire.host, str(error)) from error
            raise

    def _all(self, changes: Sequence[Change], todo: Sequence[Change]) -> Made | Moved:
        try:
            self._make(todo)
            self._read_back(todo)
            self.remap.put(
                {change.key: self._spot(change) for change in todo if change.after and change.key in self._seen}
            )
        except (_Drift, SaidNo, Refused, Unavailable) as error:
            self._take_back()
            if isinstance(error, _Drift):
                return Moved(self._present(changes), str(error))
            if isinstance(error, SaidNo):
                raise Unavailable(
                    f"{self.wire.host} refused it: {error}. Nothing was changed.",
                    advice="See whether the mailbox is full, or the folder read-only.",
                ) from error
            raise
        return Made(self._keys(changes), warnings=tuple(self._warnings))

    def _make(self, todo: Sequence[Change]) -> None:
        placed = [(change, change.before, change.after) for change in todo if change.before and change.after]
        flags: dict[tuple[str, frozenset[str], frozenset[str]], list[Change]] = {}
        moves: dict[tuple[str, str], list[Change]] = {}
        for change, before, after in placed:
            now = self._seen[change.key].flags if change.key in self._resumed else before.flags
            if now != after.flags and not self._half(change):
                flags.setdefault((before.folder, now, after.flags), []).append(change)
            if before.folder != after.folder:
                moves.setdefault((before.folder, after.folder), []).append(change)
        for (folder, old, new), own in flags.items():
            self._flag(folder, old, new, own)
        for (folder, to), own in moves.items():
            self._move(folder, to, own)
        for change in todo:
            if change.before is None and change.after is not None:
                self._put(change, change.after)
            elif change.before is not None and change.after is None:
                self._remove(change, change.before)

    # -- one kind of change each ---------------------------------------------------------------------------------------------

    def _flag(self, folder: str, before: frozenset[str], after: frozenset[str], own: Sequence[Change]) -> None:
        uids = self._open(folder, own)
        box = self.wire.open(folder, write=True, anew=False)
        lacking = [] if box.keeps is None else sorted((after - before) - box.keeps)
        if lacking:
            raise Refused(
                f"The folder {folder!r} keeps no flag {lacking[0]}.", advice="Use another flag, such as flagged."
            )
        rows = self.wire.rows(uids, modseq=box.modseqs)
        self._as_expected(own, {uid: row.flags for uid, row in rows.items()}, before)
        self._touched += own
        if box.modseqs and all(row.modseq for row in rows.values()):
            # of the highest: whatever anybody changes after this look gets a higher number than any of these
            left = set(self.wire.store(uids, "FLAGS", after, max(row.modseq for row in rows.values())))
            self._flagged |= {change.key for change in own if self._spot(change).uid not in left}
            if left:
                first = next(change for change in own if self._spot(change).uid in left)
                raise _Drift(f"{_told(first.key)} was flagged by another program just now.")
            return
        self._warnings[NO_CONDSTORE] = None
        self._flagged |= {change.key for change in own}
        # only what is to change: what others set in this moment stays set, and is seen when it is read back
        if after - before:
            self.wire.store(uids, "+FLAGS", after - before)
        if before - after:
            self.wire.store(uids, "-FLAGS", before - after)

    def _move(self, folder: str, to: str, own: Sequence[Change], *, expected: bool = True) -> None:
        uids = self._open(folder, own)
        flags = {uid: row.flags for uid, row in self.wire.rows(uids).items()}
        if expected:
            for change in own:
                assert change.after is not None, "it is moved, not taken out"
                self._as_expected([change], flags, change.after.flags)
        else:
            own = [change for change in own if self._spot(change).uid in flags]
        if not own:
            return
        uids = [self._spot(change).uid for change in own]
        if expected:
            self._touched += [change for change in own if change not in self._touched]
        if GMAIL in self.wire.can:
            self._warnings[LABELS] = None
        if "MOVE" in self.wire.can:
            spots = self.wire.move(uids, to)
            self._arrived(own, to, spots, flags)
            return
        self._copy(folder, to, own, flags)

    def _copy(self, folder: str, to: str, own: Sequence[Change], flags: dict[int, frozenset[str]]) -> None:
        """Move in two steps: never a moment without the message."""
        sources = {change.key: self._spot(change).uid for change in own}
        begun = {change.key: self._seen[change.key].copies for change in own}
        fresh = [change for change in own if not begun[change.key]]
        spots = self.wire.copy([sources[change.key] for change in fresh], to) if fresh else {}
        spots |= {sources[key]: copies[0] for key, copies in begun.items() if copies}
        placed = self._places(own, to, spots, flags)
        uids = sorted(sources.values())
        self.wire.open(folder, write=True)
        self.wire.store(uids, "+FLAGS", [DELETED])
        now = self.wire.rows(uids)
        changed = [
            change
            for change in own
            if sources[change.key] not in now
            or now[sources[change.key]].flags | {DELETED} != flags[sources[change.key]] | {DELETED}
        ]
        if changed:
            # somebody flagged or took it while it was copied: the copy, which does not have that, goes again
            marked = [sources[change.key] for change in own if self._ours(change, flags, begun=bool(begun[change.key]))]
            if marked:
                self.wire.store(marked, "-FLAGS", [DELETED])
            self._drop(to, [placed[change.key].uid for change in own])
            raise _Drift(f"{_told(changed[0].key)} was changed by another program just now.")
        self._drop(folder, uids, marked=True)
        self._warnings[COPIED] = None
        self._settle(placed)

    def _ours(self, change: Change, flags: dict[int, frozenset[str]], *, begun: bool) -> bool:
        """Whether the mark of deletion on a message that is being moved is our own: of just now, or of before a death."""
        expected = frozenset[str]() if change.after is None else change.after.flags
        return DELETED not in flags[self._spot(change).uid] or (begun and DELETED not in expected)

    def _put(self, change: Change, after: Placement) -> None:
        assert change.content is not None, "checked by whoever asked"
        self._touched.append(change)
        spot = self.wire.append(after.folder, change.content, after.flags, after.date_ns)
        if spot is None:
            seen = self.finding.find([change.key])[change.key]
            spot = seen.known.spot if seen is not None else None
        if spot is None:
            raise Refused(
                f"{self.wire.host} took the message, and it cannot be found as it was written.",
                advice="Look for it in the folder; this server changes what is put into it.",
            )
        self._settle({change.key: spot})
        self.wire.open(spot.folder)
        row = self.wire.rows([spot.uid]).get(spot.uid)
        data = self.wire.whole(spot.uid)
        if row is None or data is None:
            raise _Drift(f"{_told(change.key)} was taken away by another program just now.")
        if data != change.content or row.date_ns != after.date_ns:
            raise Refused(
                f"{self.wire.host} does not keep a message as it was written, so that it could not be taken back.",
                advice="Write it in another mail program.",
            )

    def _remove(self, change: Change, before: Placement) -> None:
        known = self._seen[change.key].known
        if not known.whole:
            raise Refused(
                f"{_told(change.key)} was not put there by takeback, and is not destroyed by it.",
                advice="Delete it in another mail program.",
            )
        [uid] = self._open(before.folder, [change])
        self._as_expected([change], {uid: row.flags for uid, row in self.wire.rows([uid]).items()}, before.flags)
        data = self.wire.whole(uid)
        if data is None or whole_of(data) != known.whole:
            raise _Drift(f"{_told(change.key)} was changed by another program.")
        self._touched.append(change)
        self._drop(before.folder, [uid])
        self._settle({change.key: replace(known.spot, uid=0)})

    def _drop(self, folder: str, uids: Sequence[int], *, marked: bool = False) -> None:
        """Take messages of ours, or whose copy lies elsewhere, out of a folder."""
        self.wire.open(folder, write=True)
        if not marked:
            self.wire.store(uids, "+FLAGS", [DELETED])
        if "UIDPLUS" in self.wire.can:
            self.wire.expunge(uids)
        else:
            self._warnings[LEFT] = None

    # -- parts ---------------------------------------------------------------------------------------------------------------

    def _arrived(
        self, own: Sequence[Change], to: str, spots: dict[int, Spot], flags: dict[int, frozenset[str]]
    ) -> None:
        self._settle(self._places(own, to, spots, flags))

    def _places(
        self, own: Sequence[Change], to: str, spots: dict[int, Spot], flags: dict[int, frozenset[str]]
    ) -> dict[str, Spot]:
        """Where the messages are now: as the server says, or by looking."""
        places: dict[str, Spot] = {}
        for change in own:
            uid = self._spot(change).uid
            spot = spots.get(uid)
            if spot is None:
                alike = self.finding.arrived(self._seen[change.key].known, to)
                free = [(one, its) for one, its in alike if one not in places.values()]
                spot = next((one for one, its in free if its == flags[uid]), free[0][0] if free else None)
            if spot is None:
                raise _Drift(f"{_told(change.key)} was moved or deleted by another program just now.")
            places[change.key] = spot
        return places

    def _settle(self, places: dict[str, Spot]) -> None:
        self.remap.put(places)
        for key, spot in places.items():
            if key in self._seen:
                seen = self._seen[key]
                self._seen[key] = replace(seen, known=replace(seen.known, spot=spot, heading=""), copies=())

    def _open(self, folder: str, own: Sequence[Change]) -> list[int]:
        """Numbers of the messages in the folder, which is open for writing then."""
        box = self.wire.open(folder, write=True)
        for change in own:
            spot = self._spot(change)
            if spot.folder != folder or spot.validity != box.validity:
                raise _Drift(f"The folder {folder!r} was made anew by another program.")
        return [self._spot(change).uid for change in own]

    def _as_expected(self, own: Sequence[Change], flags: dict[int, frozenset[str]], expected: frozenset[str]) -> None:
        for change in own:
            now = flags.get(self._spot(change).uid)
            # of a move that was begun, the message may bear our own mark already
            if now != expected and not (self._half(change) and now == expected | {DELETED}):
                verb = "moved or deleted" if now is None else "flagged"
                raise _Drift(f"{_told(change.key)} was {verb} by another program just now.")

    def _read_back(self, todo: Sequence[Change]) -> None:
        found = self.finding.find([change.key for change in todo])
        for change in todo:
            seen = found[change.key]
            if (None if seen is None else seen.placement) != change.after:
                raise _Drift(f"{_told(change.key)} was changed by another program in the same moment.")

    def _take_back(self) -> None:
        """All that this act has done so far, leaving what others did meanwhile."""
        try:
            for change in reversed(self._touched):
                self._take_one_back(change)
            self.remap.put({change.key: self._spot(change) for change in self._touched if change.key in self._seen})
        except (_Drift, SaidNo, TargetError) as error:
            wrong = TargetError(
                f"An act was begun at {self.wire.host}, could not be finished, and could not be put back: {error}",
                advice="Look at the messages before anything is tried again.",
            )
            wrong.code = HALF_DONE
            raise wrong from error

    def _take_one_back(self, change: Change) -> None:
        seen = self.finding.find([change.key])[change.key]
        before, after = change.before, change.after
        if before is None:
            if seen is not None:
                self._drop(seen.known.spot.folder, [seen.known.spot.uid])
                self.remap.put({change.key: replace(seen.known.spot, uid=0)})
            return
        if after is None or seen is None:
            return  # still there; or taken by somebody, who has it now
        self._seen[change.key] = seen
        if seen.copies:
            self._drop(seen.copies[0].folder, [copy.uid for copy in seen.copies])
        if seen.known.spot.folder == after.folder != before.folder:
            self._move(after.folder, before.folder, [change], expected=False)
        if change.key in self._flagged | self._resumed:
            spot = self._spot(change)
            self.wire.open(spot.folder, write=True)
            if after.flags - before.flags:
                self.wire.store([spot.uid], "-FLAGS", after.flags - before.flags)
            if before.flags - after.flags:
                self.wire.store([spot.uid], "+FLAGS", before.flags - after.flags)

    def _check(self, todo: Sequence[Change]) -> None:
        """What can be known before anything is changed.

        :raises Unavailable: a folder is missing.
        """
        there = {each.name for each in self.wire.folders()}
        for change in todo:
            if change.after is None:
                continue
            folder = change.after.folder
            if folder.upper() == "INBOX" or folder in there:
                continue
            if folder not in self.creatable:
                raise Unavailable(f"There is no folder {folder!r} any more.", advice="Call list_mailboxes.")
            try:
                self.wire.create(folder)
            except SaidNo as error:
                raise Unavailable(
                    f"The folder {folder!r} could not be made: {error}",
                    advice="Name another folder for it in the configuration.",
                ) from error
            there.add(folder)
        for change in todo:
            if change.before is not None or change.after is None:
                continue
            if change.content is None or digest_of_content(change.content) != change.after.digest:
                raise Unavailable("The stored message is not the one that was meant.", advice="Run takeback verify.")

    def _floors(self) -> dict[str, tuple[int, int]]:
        return {
            listed.name: (status.get("UIDVALIDITY", 0), status.get("UIDNEXT", 1))
            for listed, status in self.wire.statuses()
        }

    def _known(self, change: Change) -> Known:
        seen = self._seen.get(change.key)
        after = change.after
        if seen is not None:
            two_steps = "MOVE" not in self.wire.can and after is not None and after.folder != seen.known.spot.folder
            heading = after.folder if two_steps and after is not None else ""
            return replace(seen.known, heading=heading, begun=_fingerprint(after))
        assert after is not None, "what is nowhere before is somewhere after"
        assert change.content is not None, "checked"
        message_id = head_of(change.content).message_id
        spot = Spot(after.folder, 0, 0)
        whole = whole_of(change.content)
        return Known(change.key, spot, after.size, after.date_ns, after.digest, message_id, whole)

    def _half(self, change: Change) -> bool:
        """Whether takeback was interrupted between the two steps of this very move."""
        seen, before, after = self._seen.get(change.key), change.before, change.after
        if seen is None or not seen.copies or before is None or after is None:
            return False
        flags = (after.flags, after.flags | {DELETED})
        return seen.known.spot.folder == before.folder and seen.known.heading == after.folder and seen.flags in flags

    def _between(self, change: Change) -> bool:
        """Whether takeback was interrupted in this very act, which took effect in part: each flag is as before or as after."""
        seen, before, after = self._seen.get(change.key), change.before, change.after
        if seen is None or before is None or after is None or seen.known.begun != _fingerprint(after):
            return False
        alike = seen.placement == replace(before, flags=seen.flags)
        return alike and before.flags & after.flags <= seen.flags <= before.flags | after.flags

    def _spot(self, change: Change) -> Spot:
        return self._seen[change.key].known.spot

    def _keys(self, changes: Sequence[Change]) -> tuple[str, ...]:
        known = self.remap.get(change.key for change in changes)
        spots = {key: each.spot for key, each in known.items() if each.spot.uid > 0}
        return tuple(key_of(spots[each.key]) if each.key in spots else each.key for each in changes)

    def _present(self, changes: Sequence[Change]) -> tuple[Placement | None, ...]:
        found = self.finding.find([change.key for change in changes])
        self._seen = {key: seen for key, seen in found.items() if seen is not None}
        return tuple(self._seen[change.key].placement if change.key in self._seen else None for change in changes)


def not_known(host: str, why: str) -> TargetError:
    """Something was sent, and nobody can say what became of it."""
    error = TargetError(
        f"It is not known whether the mailbox at {host} was changed: {why}.",
        advice="Look at the messages before anything is tried again.",
    )
    error.code = HALF_DONE
    return error


def _fingerprint(after: Placement | None) -> str:
    return "" if after is None else json.dumps([after.folder, sorted(after.flags)])


def _told(key: str) -> str:
    return f"The message {key}"
