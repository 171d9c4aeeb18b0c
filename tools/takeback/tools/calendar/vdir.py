"""A vdir: a folder with one .ics file per event, as sync tools and desktop calendars share it.

A file is replaced by exchanging two names, so that what somebody saved in the same instant comes out of the exchange, is
recognised and put back; after a death by `settle`, which finds it because the name beside an event follows from what was to be
changed. Where the system cannot exchange names, `window` says what could be missed. Only plain files that end
in .ics count; links are not followed. What a crash leaves are hidden files called `.takeback-…`, which other programs ignore;
they are cleared away later, unless they hold what nobody else has.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from blake3 import blake3

from takeback.tools.calendar.lines import MOST_BYTES, NotICalendar, parse, unescape
from takeback.tools.calendar.names import ENDING, safe
from takeback.tools.calendar.port import CalendarStore, Changed, Resource
from takeback.tools.files.calls import Calls, Dir, Overtaken
from takeback.tools.files.choosing import choose_calls
from takeback.tools.system import Refused, TargetError, Unavailable

MOST_EVENTS = 20_000
"""Files that a folder may hold."""
_READ = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)

_LEFT = re.compile(rb"\.takeback-[0-9a-f]{16}(\.aside)?")

T = TypeVar("T")


class VdirStore(CalendarStore):
    """One folder of events."""

    local = True

    def __init__(self, folder: Path, data: Path, *, portable: bool = False) -> None:
        """
        :param data: the data directory, where it is tried what the machine can do.
        :param portable: do without Linux's own file calls.
        """
        self.folder = folder
        self._data, self._portable = data, portable
        self._found: Calls | None = None
        self._changing = threading.Lock()

    @property
    def window(self) -> str:
        """What could be missed where two names cannot be exchanged in one step; empty otherwise."""
        return "" if self._found is None else self._found.window

    async def names(self) -> Sequence[tuple[str, str]]:
        return [(each.name, each.etag) for each in await self.all()]

    async def all(self) -> Sequence[Resource]:
        """Every event."""
        return await self._in_thread(self._alone(self._all))

    async def read(self, names: Sequence[str]) -> Sequence[Resource | None]:
        return await self._in_thread(self._alone(lambda calls, folder: [_read(calls, folder, name) for name in names]))

    async def find(self, uid: str) -> Resource | None:
        return next((each for each in await self.all() if _uid_of(each.data) == uid), None)

    async def write(self, name: str, data: bytes, expected: Resource | None) -> Resource | Changed:
        _check_name(name)
        if len(data) > MOST_BYTES:
            raise Refused(f"The event has more than {MOST_BYTES:,} bytes.", advice="Leave attachments out of it.")
        return await self._in_thread(self._alone(lambda calls, folder: _write(calls, folder, name, data, expected)))

    async def remove(self, name: str, expected: Resource) -> Changed | None:
        _check_name(name)
        return await self._in_thread(self._alone(lambda calls, folder: _remove(calls, folder, name, expected)))

    async def settle(self, name: str, before: bytes | None, after: bytes | None) -> str | None:
        """After a death in this very change: put back what somebody had saved just before it, if that came out.

        :returns: why the event is not as the change left it; `None`: nobody had saved.
        :raises TargetError: somebody saved again meanwhile; it says where the earlier save lies.
        """
        _check_name(name)
        return await self._in_thread(self._alone(lambda calls, folder: _settle(calls, folder, name, before, after)))

    async def leftovers(self, older_than_ns: int) -> Sequence[tuple[str, bytes]]:
        """What a process that died left beside the events, if it has lain there for so long: name and bytes."""
        return await self._in_thread(lambda calls, folder: _leftovers(calls, folder, older_than_ns))

    async def clear(self, leftover: str, data: bytes) -> bool:
        """Remove it, if it still holds these bytes."""
        return await self._in_thread(lambda calls, folder: _clear(calls, folder, os.fsencode(leftover), data))

    # -- in a thread -----------------------------------------------------------------------------------------------------

    def _alone(self, work: Callable[[Calls, Dir], T]) -> Callable[[Calls, Dir], T]:
        """One after the other: where names cannot be exchanged in one step, a name is absent for an instant."""

        def alone(calls: Calls, folder: Dir) -> T:
            with self._changing:
                return work(calls, folder)

        return alone

    async def _in_thread(self, work: Callable[[Calls, Dir], T]) -> T:
        return await asyncio.shield(asyncio.to_thread(self._working, work))

    def _working(self, work: Callable[[Calls, Dir], T]) -> T:
        try:
            if self._found is None:
                self._found = choose_calls(os.fsencode(self._data), [os.fsencode(self.folder)], portable=self._portable)
            with self._found.open_root(os.fsencode(self.folder)) as folder:
                return work(self._found, folder)
        except FileNotFoundError as error:
            raise Unavailable(
                "The calendar's folder is not there.", advice="Check the calendar's path in the configuration."
            ) from error
        except OSError as error:
            raise TargetError(
                f"The calendar's folder could not be used: {error.strerror}.", advice="Check it and its permissions."
            ) from error

    def _all(self, calls: Calls, folder: Dir) -> Sequence[Resource]:
        found: list[Resource] = []
        for raw in calls.names(folder):
            name = os.fsdecode(raw)
            if not name.endswith(ENDING) or not safe(name):
                continue
            try:
                resource = _read(calls, folder, name)
            except Refused:
                continue  # a link, a device, something far too large: not an event
            if resource is not None:
                found.append(resource)
            if len(found) > MOST_EVENTS:
                raise Refused(f"The folder holds more than {MOST_EVENTS:,} events.", advice="Split the calendar.")
        return found


def _resource(name: str, data: bytes) -> Resource:
    return Resource(name, data, blake3(data).hexdigest())


def _check_name(name: str) -> None:
    if not safe(name):
        raise Refused(f"{name!r} cannot be the name of an event's file.", advice="Use a plain name that ends in .ics.")


def _read(calls: Calls, folder: Dir, name: str) -> Resource | None:
    raw = os.fsencode(name)
    there = calls.lstat(folder, raw) or _settled(calls, folder, raw)
    if there is None:
        return None
    if not stat.S_ISREG(there.st_mode):
        raise Refused(f"{name} is no plain file.", advice="Links and folders are not followed; remove it by hand.")
    try:
        fd = calls.open_file(folder, raw, _READ)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise Refused(f"{name} is no plain file.", advice="Links and folders are not followed; remove it by hand.")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise Refused(f"{name} has more than {MOST_BYTES:,} bytes.", advice="Take attachments out of it.")
    return _resource(name, data)


def _write(calls: Calls, folder: Dir, name: str, data: bytes, expected: Resource | None) -> Resource | Changed:
    present = _read(calls, folder, name)
    if (present and present.data) != (expected and expected.data):
        return Changed(present)
    raw, beside = os.fsencode(name), _beside(calls, folder, name, None if expected is None else expected.data, data)
    before = calls.lstat(folder, raw)
    _stage(calls, folder, beside, data, 0o600 if before is None else stat.S_IMODE(before.st_mode))
    if expected is None:
        try:
            calls.place(folder, beside, folder, raw)
        except FileExistsError:
            calls.unlink(folder, beside)
            return Changed(_read(calls, folder, name))
    else:
        try:
            calls.exchange(folder, raw, folder, beside)
        except Overtaken as error:
            calls.unlink(folder, beside)
            if _taken(calls, folder, error.kept) != expected.data:
                raise _saved_twice(name, error.kept) from error
            calls.unlink(folder, error.kept)
            return Changed(_read(calls, folder, name))
        except (FileNotFoundError, FileExistsError):
            calls.unlink(folder, beside)
            return Changed(_read(calls, folder, name))
        if (taken := _taken(calls, folder, beside)) != expected.data:
            try:
                calls.exchange(folder, raw, folder, beside)
            except (FileNotFoundError, FileExistsError) as error:
                raise _saved_twice(name, beside) from error
            if _taken(calls, folder, beside) != data:  # and once more, in between: neither save is thrown away
                raise _saved_twice(name, beside)
            calls.unlink(folder, beside)
            calls.sync_folder(folder)
            return Changed(_resource(name, taken))
        calls.unlink(folder, beside)
    calls.sync_folder(folder)
    now = _read(calls, folder, name)
    if now is None:
        raise TargetError(f"{name} was written and is not there any more.", advice="Look who else writes there.")
    return now


def _remove(calls: Calls, folder: Dir, name: str, expected: Resource) -> Changed | None:
    present = _read(calls, folder, name)
    if present is None or present.data != expected.data:
        return Changed(present)
    raw, beside = os.fsencode(name), _beside(calls, folder, name, expected.data, None)
    try:
        calls.take(folder, raw, folder, beside)
    except FileNotFoundError:
        return Changed(None)
    if (taken := _taken(calls, folder, beside)) != expected.data:
        try:
            calls.place(folder, beside, folder, raw)
        except FileExistsError as error:
            raise _saved_twice(name, beside) from error
        return Changed(_resource(name, taken))
    calls.unlink(folder, beside)
    calls.sync_folder(folder)
    return None


def _settle(calls: Calls, folder: Dir, name: str, before: bytes | None, after: bytes | None) -> str | None:
    raw, beside = os.fsencode(name), _named(name, before, after)
    kept = calls.settle(folder, raw, folder, beside)
    if kept is not None:
        raise _saved_twice(name, kept)
    if calls.lstat(folder, beside) is None or _taken(calls, folder, beside) in (before, after, b""):
        return None  # a file that had been made, and not yet written, is nobody's
    present = _read(calls, folder, name)
    try:
        if (present and present.data) != after:
            raise _saved_twice(name, beside)
        if after is None:
            calls.place(folder, beside, folder, raw)
        else:
            calls.exchange(folder, raw, folder, beside)
    except (FileNotFoundError, FileExistsError) as error:
        if isinstance(error, Overtaken) and _taken(calls, folder, error.kept) == after:
            calls.unlink(folder, error.kept)
        raise _saved_twice(name, beside) from error
    if after is not None:
        if _taken(calls, folder, beside) != after:  # and once more, in between
            raise _saved_twice(name, beside)
        calls.unlink(folder, beside)
    calls.sync_folder(folder)
    return f"Somebody saved {name} just before it was changed; that is there again."


def _beside(calls: Calls, folder: Dir, name: str, before: bytes | None, after: bytes | None) -> bytes:
    """A free name for what is being put in an event's place; it tells whose, and in which change, so that a crash can be
    settled."""
    beside = _named(name, before, after)
    if calls.lstat(folder, beside) is not None:
        if _taken(calls, folder, beside) not in (before, after, b""):
            return _ours(os.fsencode(name)) + secrets.token_hex(4).encode()  # somebody's: it has been told, and stays
        # an earlier try of the same died over it, or another process is at it: then it is looked at where that cannot reach it
        aside = _ours(os.fsencode(name)) + secrets.token_hex(4).encode()
        calls.take(folder, beside, folder, aside)
        if _taken(calls, folder, aside) in (before, after, b""):
            calls.unlink(folder, aside)
    return beside


def _named(name: str, before: bytes | None, after: bytes | None) -> bytes:
    change = blake3()
    for side in (before, after):
        change.update(b"-" if side is None else blake3(side).digest())
    return _ours(os.fsencode(name)) + change.hexdigest()[:8].encode()


def _ours(raw: bytes) -> bytes:
    return b".takeback-" + blake3(raw).hexdigest()[:8].encode()


def _settled(calls: Calls, folder: Dir, raw: bytes) -> os.stat_result | None:
    """Where names are not exchanged in one step, a crash can leave a name absent: what stood there is put back."""
    if calls.one_step:
        return None
    for name in calls.names(folder):
        beside = name[: len(_ours(raw)) + 8]
        if name.startswith(_ours(raw)) and name != beside and calls.clashes(name):
            calls.settle(folder, raw, folder, beside)
    return calls.lstat(folder, raw)


def _leftovers(calls: Calls, folder: Dir, older_than_ns: int) -> Sequence[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for raw in calls.names(folder):
        there = calls.lstat(folder, raw) if _LEFT.fullmatch(raw) else None
        if there is None or not stat.S_ISREG(there.st_mode) or there.st_size > MOST_BYTES:
            continue
        # an exchange keeps the time of the content, and not that of the name
        if time.time_ns() - max(there.st_mtime_ns, there.st_ctime_ns) >= older_than_ns:
            found.append((os.fsdecode(raw), _taken(calls, folder, raw)))
    return found


def _clear(calls: Calls, folder: Dir, name: bytes, data: bytes) -> bool:
    if _LEFT.fullmatch(name) is None or _taken(calls, folder, name) != data:
        return False
    calls.unlink(folder, name)
    return True


def _stage(calls: Calls, folder: Dir, name: bytes, data: bytes, mode: int) -> None:
    fd = calls.open_file(folder, name, _NEW, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
            file.flush()
            calls.sync(fd)
        if mode != 0o600:
            calls.chmod(folder, name, mode)
    except OSError as error:
        calls.unlink(folder, name)
        raise Unavailable(f"The event could not be written: {error.strerror}.", advice="Make room.") from error


def _taken(calls: Calls, folder: Dir, name: bytes) -> bytes:
    with os.fdopen(calls.open_file(folder, name, _READ), "rb") as file:
        return file.read()


def _saved_twice(name: str, beside: bytes) -> TargetError:
    return TargetError(
        f"Somebody saved {name} twice in the same instant; the earlier save lies beside it as {os.fsdecode(beside)}.",
        advice="Compare the two files.",
    )


def _uid_of(data: bytes) -> str | None:
    try:
        events = parse(data).parts("VEVENT")
    except NotICalendar:
        return None
    found = events[0].line("UID") if events else None
    return None if found is None else unescape(found.value)
