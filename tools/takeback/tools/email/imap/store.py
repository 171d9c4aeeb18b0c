"""A mailbox on an IMAP server as a `MailStore`. All talk with the server is done in worker threads, one at a time."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeVar

import anyio.to_thread
from blake3 import blake3

from takeback.tools.email.imap.changing import Changing
from takeback.tools.email.imap.finding import Finding, Seen, digest_of_content, ref_of, whole_of
from takeback.tools.email.imap.names import FLAGS, Spot, key_of
from takeback.tools.email.imap.reaching import Account
from takeback.tools.email.imap.recalling import known_from
from takeback.tools.email.imap.remap import Remap
from takeback.tools.email.imap.roles import roles_of
from takeback.tools.email.imap.searching import MOST, newest, words
from takeback.tools.email.imap.wire import Lost, SaidNo, Wire
from takeback.tools.email.merging import flags_of_both, folder_of_both, hindrance
from takeback.tools.email.port import (
    INBOX,
    Change,
    Flag,
    FolderInfo,
    Found,
    Listing,
    Made,
    MailStore,
    Moved,
    Placement,
    Role,
    Wanted,
)
from takeback.tools.recall import Recalled
from takeback.tools.system import Refused, Unavailable

T = TypeVar("T")
IDLE_SECONDS: Final = 20.0
"""A connection that has lain so long is asked whether it still stands before it is used."""
HEADER_BYTES: Final = 64 * 1024
FEWEST: Final = 200
"""Messages that are looked at of each folder when many are listed at once."""
Credentials = Callable[[], Account]
Recalling = Callable[[], Awaitable[Mapping[str, Recalled]]]


class ImapStore(MailStore):
    """One account on one server."""

    local = False

    def __init__(self, account: Credentials, table: Path, *, configured: Mapping[Role, str], recall: Recalling) -> None:
        """
        :param account: asked at each connection: a password may have been stored since.
        :param table: the file that remembers what was moved where.
        :param configured: folders that the settings name on purpose.
        :param recall: what the journal knows of that, should the file be lost.
        """
        self._account, self._configured = account, configured
        self._remap, self._recall = Remap(table), recall
        self._wire: Wire | None = None
        self._used = 0.0
        self._busy = threading.Lock()
        self._roles: dict[Role, str] | None = None

    # -- looking -------------------------------------------------------------------------------------------------------------

    async def folders(self) -> Sequence[FolderInfo]:
        def read(wire: Wire) -> list[FolderInfo]:
            found = [
                FolderInfo(each.name, status.get("MESSAGES", 0), status.get("UNSEEN", 0))
                for each, status in wire.statuses()
            ]
            return sorted(found, key=lambda each: (each.name.upper() != INBOX, each.name))

        return await self._run(read)

    async def roles(self) -> Mapping[Role, str]:
        return await self._run(self._roles_here)

    async def listed(self, folder: str | None) -> Sequence[Found]:
        return (await self.search(folder, Wanted())).found

    async def search(self, folder: str | None, wanted: Wanted) -> Listing:
        return await self._run(lambda wire: self._search(wire, folder, wanted))

    async def head(self, keys: Sequence[str], limit: int) -> Sequence[bytes | None]:
        def read(wire: Wire) -> list[bytes | None]:
            found = self._find(wire, keys)
            heads: dict[Spot, bytes] = {}
            folders = dict.fromkeys(seen.known.spot.folder for seen in found.values() if seen)
            for folder in folders:
                uids = [seen.known.spot.uid for seen in found.values() if seen and seen.known.spot.folder == folder]
                box = wire.open(folder)
                # the header is the first part of a message; more of it is fetched only where that was asked for
                rows = wire.rows(uids, body=limit) if limit > HEADER_BYTES else wire.rows(uids, head=limit)
                heads.update((Spot(folder, box.validity, uid), row.body) for uid, row in rows.items())
            return [None if (seen := found[key]) is None else heads.get(seen.known.spot) for key in keys]

        return await self._run(read)

    async def raw(self, key: str, limit: int) -> tuple[Placement, bytes] | None:
        def read(wire: Wire) -> tuple[Placement, bytes] | None:
            seen = self._find(wire, [key])[key]
            if seen is None:
                return None
            if seen.known.size > limit:
                raise Refused(
                    f"The message has {seen.known.size:,} bytes, more than the {limit:,} that are read.",
                    advice="Use another mail program for it.",
                )
            wire.open(seen.known.spot.folder)
            data = wire.whole(seen.known.spot.uid)
            return None if data is None else (seen.placement, data)

        return await self._run(read)

    async def look(self, keys: Sequence[str]) -> Sequence[Placement | None]:
        def look(wire: Wire) -> list[Placement | None]:
            found = Finding(wire, self._remap).look(keys)
            return [None if (seen := found[key]) is None else seen.placement for key in keys]

        return await self._run(look)

    async def holds(self, folder: str, message_id: str) -> bool:
        def ask(wire: Wire) -> bool:
            if folder not in {each.name for each in wire.folders()}:
                return False
            wire.open(folder)
            return bool(wire.search(["HEADER", "MESSAGE-ID", message_id]))

        return await self._run(ask)

    # -- changing ------------------------------------------------------------------------------------------------------------

    async def change(self, changes: Sequence[Change]) -> Made | Moved:
        def change(wire: Wire) -> Made | Moved:
            roles = self._roles_here(wire)
            return Changing(wire, self._remap, frozenset(roles.values())).change(changes)

        return await self._run(change)

    async def close(self) -> None:
        def close() -> None:
            with self._busy:
                self._let_go()

        await anyio.to_thread.run_sync(close)

    # -- pure ----------------------------------------------------------------------------------------------------------------

    def marked(self, placement: Placement, *, add: Sequence[Flag] = (), remove: Sequence[Flag] = ()) -> Placement:
        flags = (placement.flags | {FLAGS[flag] for flag in add}) - {FLAGS[flag] for flag in remove}
        return dataclasses.replace(placement, flags=flags)

    def moved(self, placement: Placement, folder: str) -> Placement:
        return dataclasses.replace(placement, folder=folder)

    def merged(self, base: Placement, wanted: Placement, present: Placement) -> Placement | str:
        why_not = hindrance(base, wanted, present)
        if why_not is not None:
            return why_not
        folder = folder_of_both(base, wanted, present)
        flags = flags_of_both(base.flags, wanted.flags, present.flags)
        return dataclasses.replace(present, folder=folder, flags=flags)

    def flag_names(self, flags: frozenset[str]) -> Sequence[Flag]:
        lower = {flag.lower() for flag in flags}
        return [flag for flag, name in FLAGS.items() if name.lower() in lower]

    def fresh(
        self, content: bytes, digest: str, folder: str, flags: Sequence[Flag], seed: str
    ) -> tuple[str, Placement]:
        # servers keep whole seconds
        now = int(time.time()) * 1_000_000_000
        key = f"takeback.{blake3(seed.encode()).hexdigest()[:32]}"
        words = frozenset(FLAGS[flag] for flag in flags)
        ref = ref_of(whole_of(content))
        return key, Placement(folder, words, now, digest_of_content(content), len(content), ref)

    # -- in a thread ---------------------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[Wire], T]) -> T:
        if not self._remap.whole():
            self._remap.make(known_from(await self._recall()))
        # what has been begun is brought to its end, whoever stops waiting for it
        return await anyio.to_thread.run_sync(self._do, work)

    def _do(self, work: Callable[[Wire], T]) -> T:
        with self._busy:
            for again in (True, False):
                wire = self._connected()
                try:
                    return work(wire)
                except Lost as error:
                    self._let_go(politely=False)
                    # whoever changes something says itself when that is not known; this is a connection lost while looking
                    if not again:
                        raise Unavailable(f"{wire.host} broke off ({error}).", advice="Try again later.") from error
                except SaidNo as error:
                    raise Unavailable(
                        f"{wire.host} refused it: {error}.", advice="See whether the folder is still there."
                    ) from error
                finally:
                    if wire.changing:
                        self._let_go(politely=False)  # a late answer must not be taken for another command's
                    self._used = time.monotonic()
            raise AssertionError("the loop returns or raises")

    def _connected(self) -> Wire:
        wire = self._wire
        if wire is not None and time.monotonic() - self._used > IDLE_SECONDS and not wire.alive():
            self._let_go(politely=False)
            wire = None
        if wire is None:
            wire = self._wire = Wire(self._account())
        return wire

    def _let_go(self, *, politely: bool = True) -> None:
        if self._wire is not None:
            self._wire.close(politely=politely)
        self._wire = None

    def _roles_here(self, wire: Wire) -> dict[Role, str]:
        if self._roles is None:
            self._roles = roles_of(wire.folders(), self._configured, wire.prefix())
        return self._roles

    def _find(self, wire: Wire, keys: Sequence[str]) -> dict[str, Seen | None]:
        return Finding(wire, self._remap).find(keys)

    def _search(self, wire: Wire, folder: str | None, wanted: Wanted) -> Listing:
        there = wire.folders()
        if folder is not None and folder not in {each.name for each in there}:
            raise Refused(f"There is no folder {folder!r}.", advice="Call list_mailboxes to see which there are.")
        # a folder of all mail holds everything once more
        names = [folder] if folder is not None else [e.name for e in there if not e.attributes & {"\\all", "\\flagged"}]
        most = max(MOST // max(1, len(names)), FEWEST)
        found: list[Found] = []
        cut: list[str] = []
        for name in names:
            try:
                box = wire.open(name)
            except SaidNo:
                continue  # deleted just now, or it may not be read
            uids, more = newest(wire, wanted, box.next_uid, box.messages, most)
            if more:
                cut.append(name)
            known = self._remap.in_folder(name, box.validity) if uids else {}
            for uid, row in wire.rows(uids).items():
                key = known.get(uid) or key_of(Spot(name, box.validity, uid))
                found.append(Found(key, name, row.flags, row.date_ns, row.size))
        notes = [f"Words are found as {wire.host} finds them."] if words(wanted) else []
        if cut:
            notes.append(
                f"Only the {most:,} messages that came in last were looked at in {', '.join(cut)};"
                " narrow it by date or words."
            )
        found.sort(key=lambda each: (-each.date_ns, each.key))
        return Listing(tuple(found), " ".join(notes), searched=True)
