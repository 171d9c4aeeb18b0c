"""One connection to an IMAP server, command by command, with an error that says whether anything can have happened.

IMAPClient drops the answers that undo needs (COPYUID, MODIFIED) and has no conditional STORE, so that these few commands go
through the connection below it.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar, cast

from takeback.tools.email.imap.names import Spot, flags_of, numbers, sendable
from takeback.tools.email.imap.reaching import Account, connect, library, plain, text_of
from takeback.tools.system import Refused

T = TypeVar("T")
_Line = tuple[Sequence[bytes], bytes | None, str | bytes]
"""Of a folder: what it is, its delimiter, its name."""
AT_ONCE: Final = 500
"""Messages of one FETCH."""
_APPENDED = re.compile(r"\[APPENDUID (\d+) (\d+)\]", re.IGNORECASE)
_COPIED = re.compile(r"(\d+) ([\d:,]+) ([\d:,]+)\Z")


class Lost(Exception):
    """The connection broke. Whether a command that changes something was on its way, `Wire.changing` says."""


class SaidNo(Exception):
    """The server refused a command; its own words."""


@dataclass(frozen=True, slots=True)
class Box:
    """A folder that was opened."""

    folder: str
    validity: int
    next_uid: int
    messages: int
    modseqs: bool
    """It counts changes (CONDSTORE). Some servers say up to which number only once somebody has asked for one."""
    keeps: frozenset[str] | None
    r"""Flags that can be set for good; `None`: any (`\*`)."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A folder as it is listed."""

    name: str
    delimiter: str
    attributes: frozenset[str]
    """Lower case, such as `\\trash` (RFC 6154)."""


@dataclass(frozen=True, slots=True)
class Row:
    """What was fetched of one message. Parts that were not asked for are empty."""

    uid: int
    flags: frozenset[str]
    date_ns: int
    size: int
    modseq: int
    body: bytes


class Wire:
    """A connection that is logged in. For one thread at a time."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.host = account.host
        self.changing = False
        """A command that changes something was sent, and its answer has not been seen."""
        self._opened: tuple[str, bool] | None = None
        self._box: Box | None = None
        self._client = connect(account)
        self.can = self._ask(self._capabilities)

    # -- folders -----------------------------------------------------------------------------------------------------------

    def folders(self) -> list[Listed]:
        """All folders that can hold messages."""
        return self._listed(self._ask(lambda: self._list(())[0]))

    def statuses(self) -> list[tuple[Listed, Mapping[str, int]]]:
        """The same with MESSAGES, UNSEEN, UIDNEXT and UIDVALIDITY; a folder that tells nothing is left out."""
        words = ("MESSAGES", "UNSEEN", "UIDNEXT", "UIDVALIDITY")
        known: dict[str, Mapping[str, int]] = {}
        if "LIST-STATUS" in self.can:
            lines, told = self._ask(lambda: self._list(words))
            listed = self._listed(lines)
            known = {**told}
        else:
            listed = self.folders()
        found: list[tuple[Listed, Mapping[str, int]]] = []
        for each in listed:
            status = known.get(each.name)
            if status is None:
                with contextlib.suppress(SaidNo):  # somebody deleted it just now, or it may not be read
                    asked = self._ask(partial(self._client.folder_status, each.name, words))
                    status = {key.decode().upper(): value for key, value in asked.items()}
            if status is not None:
                found.append((each, status))
        return found

    def prefix(self) -> str:
        """What names of a person's own folders begin with, such as `INBOX.`."""
        if "NAMESPACE" not in self.can:
            return ""
        try:
            personal = self._ask(self._client.namespace).personal
        except SaidNo:
            return ""
        return text_of(personal[0][0]) if personal else ""

    def create(self, folder: str) -> None:
        """Make a folder."""
        self._change(lambda: self._client.create_folder(_safe(folder)))

    def open(self, folder: str, *, write: bool = False, anew: bool = True) -> Box:
        r"""EXAMINE or SELECT. Never left by CLOSE, which would destroy what others have marked as `\Deleted`.

        :raises SaidNo: there is no such folder.
        """
        if not anew and self._box is not None and self._opened == (folder, write):
            return self._box
        self._opened = None
        said = self._ask(lambda: self._client.select_folder(_safe(folder), readonly=not write))
        keeps = flags_of(said.get(b"PERMANENTFLAGS", said.get(b"FLAGS", ())))
        if write and b"READ-ONLY" in said:
            raise Refused(f"The folder {folder!r} may only be read.", advice="Use another folder.")
        self._box = box = Box(
            folder,
            int(said.get(b"UIDVALIDITY", 0)),
            int(said.get(b"UIDNEXT", 0)),
            int(said.get(b"EXISTS", 0)),
            "CONDSTORE" in self.can and b"NOMODSEQ" not in said,
            None if "\\*" in keeps else keeps,
        )
        self._opened = (folder, write)
        return box

    # -- looking -------------------------------------------------------------------------------------------------------------

    def search(self, criteria: Sequence[object]) -> list[int]:
        """Numbers of the messages in the open folder that fit, as the server sees it, in ascending order."""
        plain = all(not isinstance(each, str) or each.isascii() for each in criteria)
        return sorted(self._ask(lambda: self._client.search(criteria, None if plain else "UTF-8")))

    def rows(self, uids: Sequence[int], *, body: int = 0, head: int = 0, modseq: bool = False) -> dict[int, Row]:
        r"""Flags, date and size of messages in the open folder. Nothing is marked as seen.

        :param body: first bytes of each message to fetch as well; `head`: of its header only.
        """
        what = ["FLAGS", "INTERNALDATE", "RFC822.SIZE", *(["MODSEQ"] if modseq else [])]
        if body or head:
            what.append(f"BODY.PEEK[]<0.{body}>" if body else f"BODY.PEEK[HEADER]<0.{head}>")
        found: dict[int, Row] = {}
        for start in range(0, len(uids), AT_ONCE):
            some = uids[start : start + AT_ONCE]
            for uid, said in self._ask(partial(self._client.fetch, some, what)).items():
                if b"RFC822.SIZE" in said and b"FLAGS" in said:
                    found[uid] = _row(uid, said)
        return found

    def whole(self, uid: int) -> bytes | None:
        """All bytes of a message in the open folder."""
        found = self._ask(lambda: self._client.fetch([uid], ["BODY.PEEK[]"]))
        said = found.get(uid, {}).get(b"BODY[]")
        return said if isinstance(said, bytes) else None

    # -- changing --------------------------------------------------------------------------------------------------------------

    def store(self, uids: Sequence[int], item: str, flags: Iterable[str], unchanged_since: int = 0) -> list[int]:
        """Set flags in the open folder.

        :param item: `FLAGS`, `+FLAGS` or `-FLAGS`.
        :param unchanged_since: a MODSEQ (RFC 7162): what was changed later is left alone.
        :returns: numbers of the messages that were left alone.
        """
        arguments = [",".join(map(str, uids))]
        if unchanged_since:
            arguments.append(f"(UNCHANGEDSINCE {unchanged_since})")
        arguments += [f"{item}.SILENT", f"({' '.join(sorted(flags))})"]

        def store() -> list[int]:
            raw = self._below()
            raw.untagged_responses.pop("MODIFIED", None)
            kind, said = raw.uid("STORE", *arguments)
            left = raw.untagged_responses.pop("MODIFIED", [])
            if kind != "OK" and not left:
                raise SaidNo(plain(said))
            return [number for each in left if each for number in numbers(text_of(each))]

        return self._change(store)

    def move(self, uids: Sequence[int], folder: str) -> dict[int, Spot]:
        """MOVE (RFC 6851), each message at once. The new places, as far as the server tells them."""
        return self._change(lambda: self._copied(lambda: self._client.move(uids, _safe(folder)), folder))

    def copy(self, uids: Sequence[int], folder: str) -> dict[int, Spot]:
        """COPY. The new places, as far as the server tells them."""
        return self._change(lambda: self._copied(lambda: self._client.copy(uids, _safe(folder)), folder))

    def append(self, folder: str, content: bytes, flags: Iterable[str], date_ns: int) -> Spot | None:
        """Put a message there; `None`: the server does not tell its number."""
        date = datetime.fromtimestamp(date_ns // 1_000_000_000, UTC)
        said = self._change(lambda: self._client.append(_safe(folder), content, sorted(flags), date))
        found = _APPENDED.search(text_of(said))
        return None if found is None else Spot(folder, int(found[1]), int(found[2]))

    def expunge(self, uids: Sequence[int]) -> None:
        r"""Take these messages out of the open folder for good (UID EXPUNGE, RFC 4315). Others that are `\Deleted` stay."""
        self._change(lambda: self._client.uid_expunge(uids))

    # -- the connection ------------------------------------------------------------------------------------------------------

    def alive(self) -> bool:
        """Whether it still stands."""
        try:
            self._ask(self._client.noop)
        except (Lost, SaidNo):
            return False
        return True

    def close(self, *, politely: bool = True) -> None:
        """Let go."""
        with contextlib.suppress(Exception):  # a connection that is broken already
            if politely:
                self._client.logout()
            else:
                self._client.shutdown()

    def _ask(self, command: Callable[[], T]) -> T:
        """Send something that changes nothing.

        :raises Lost: the connection broke.
        :raises SaidNo: the server refused it.
        """
        try:
            return command()
        except (imaplib.IMAP4.abort, OSError) as error:
            self._opened = None
            raise Lost(plain(error)) from error
        except imaplib.IMAP4.error as error:
            raise SaidNo(plain(error)) from error
        except (ValueError, TypeError, KeyError, IndexError) as error:
            # an answer that IMAPClient cannot read: what follows on this connection would not be understood either
            self._opened = None
            raise Lost(f"an answer that cannot be read ({type(error).__name__})") from error

    def _change(self, command: Callable[[], T]) -> T:
        """Send something that changes something: until its answer is there, nobody knows whether it did."""
        self.changing = True
        try:
            answer = self._ask(command)
        except SaidNo:
            self.changing = False
            raise
        self.changing = False
        return answer

    def _copied(self, command: Callable[[], object], folder: str) -> dict[int, Spot]:
        raw = self._below()
        raw.untagged_responses.pop("COPYUID", None)
        command()
        spots: dict[int, Spot] = {}
        for each in raw.untagged_responses.pop("COPYUID", []):
            found = _COPIED.match(text_of(each).strip())
            if found is None:
                continue
            old, new = numbers(found[2]), numbers(found[3])
            if len(old) == len(new):
                spots.update((one, Spot(folder, int(found[1]), two)) for one, two in zip(old, new, strict=True))
        return spots

    def _capabilities(self) -> frozenset[str]:
        """What the server can do now: many say more to who is logged in, and IMAPClient may remember what they said before."""
        raw = self._below()
        raw.untagged_responses.pop("CAPABILITY", None)
        kind, said = raw._simple_command("CAPABILITY")
        if kind != "OK":
            raise imaplib.IMAP4.error(plain(said))
        words = [word for line in raw.untagged_responses.pop("CAPABILITY", []) for word in bytes(line).upper().split()]
        cast("Any", self._client)._cached_capabilities = tuple(words)
        return frozenset(word.decode("ascii", "replace") for word in words)

    def _below(self) -> Any:
        """The connection below IMAPClient (imaplib): IMAPClient drops what undo needs, and does not ask for it."""
        return cast("Any", self._client)._imap

    def _list(self, words: Sequence[str]) -> tuple[list[_Line], dict[str, dict[str, int]]]:
        """LIST with what each folder is for (RFC 6154) and, if words are given, its status (RFC 5819)."""
        decode = library("imap_utf7").decode
        parse_response = library("response_parser").parse_response
        wanted = ["SPECIAL-USE"] if "SPECIAL-USE" in self.can else []
        wanted += [f"STATUS ({' '.join(words)})"] if words else []
        raw = self._below()
        for old in ("LIST", "STATUS"):
            raw.untagged_responses.pop(old, None)
        options = [f"RETURN ({' '.join(wanted)})"] if wanted else []
        kind, said = raw._simple_command("LIST", '""', '"*"', *options)
        if kind != "OK":
            raise imaplib.IMAP4.error(plain(said))
        lines = raw.untagged_responses.pop("LIST", [])
        told: dict[str, dict[str, int]] = {}
        statuses = raw.untagged_responses.pop("STATUS", [])
        if statuses:
            parsed = cast("tuple[Any, ...]", parse_response(statuses))
            for name, pairs in zip(parsed[::2], parsed[1::2], strict=True):
                text = str(decode(name)) if isinstance(name, bytes) else str(name)
                told[text] = {
                    text_of(key).upper(): int(value) for key, value in zip(pairs[::2], pairs[1::2], strict=True)
                }
        return cast("Any", self._client)._proc_folder_list(lines), told

    def _listed(self, lines: list[_Line]) -> list[Listed]:
        found: list[Listed] = []
        for attributes, delimiter, name in lines:
            words = frozenset(text_of(each).lower() for each in attributes)
            text = text_of(name)
            if not words & {"\\noselect", "\\nonexistent"} and sendable(text):
                found.append(Listed(text, text_of(delimiter or b""), words))
        return found


def _safe(folder: str) -> str:
    """The name, if it can stand in a command."""
    if not sendable(folder):
        raise Refused("A folder's name holds a control character.", advice="Name a folder that list_mailboxes answers.")
    return folder


def _row(uid: int, said: Mapping[bytes, Any]) -> Row:
    date = said.get(b"INTERNALDATE")
    body = next((value for key, value in said.items() if key.startswith(b"BODY[") and isinstance(value, bytes)), b"")
    modseq = said.get(b"MODSEQ", (0,))
    return Row(
        uid=uid,
        flags=flags_of(said[b"FLAGS"]),
        date_ns=int(date.timestamp()) * 1_000_000_000 if isinstance(date, datetime) else 0,
        size=int(said[b"RFC822.SIZE"]),
        modseq=int(modseq[0]),
        body=body,
    )
