"""A mailbox on a server as another mail program of the same person sees and changes it: imaplib, nothing of ours."""

from __future__ import annotations

import imaplib
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from tests.tools.email import maildirs
from tests.tools.email.imap.servers import PASSWORD, USER, Server, person

from takeback.tools.email.imap.opening import open_imap
from takeback.tools.email.imap.store import ImapStore
from takeback.tools.email.settings import MailboxSettings

ODD = 'Größe & *%"x"'
FOLDERS = ("Sent", "Trash", "Drafts", "Archive", ODD)
DATE = '"05-Nov-2023 10:00:%02d +0200"'
Tree = Counter[tuple[str, tuple[str, ...], str, bytes]]
"""Every message: folder, flags, INTERNALDATE, bytes. Numbers are left out: they change with every move."""


@dataclass
class Box:
    """One account, filled by `fill`."""

    server: Server
    user: str = USER
    port: int = 0
    """Where takeback reaches it; by default where the server is."""
    _client: imaplib.IMAP4 | None = field(default=None, repr=False)

    @property
    def client(self) -> imaplib.IMAP4:
        if self._client is None:
            self._client = person(self.server, self.user)
        return self._client

    def settings(self, **more: Any) -> MailboxSettings:
        return MailboxSettings(
            imap=f"imap://127.0.0.1:{self.port or self.server.port}",
            username=self.user,
            password_variable="MAIL_PASSWORD",
            address="me@example.org",
            **more,
        )

    def store(self, data: Path, **more: Any) -> ImapStore:
        return open_imap(
            "work", self.settings(), data, environment={"MAIL_PASSWORD": PASSWORD}, **{"seconds": 5, **more}
        )

    # -- what the person does ------------------------------------------------------------------------------------------------

    def fill(self, count: int = 6, folders: tuple[str, ...] = FOLDERS) -> Box:
        there = self.folders()
        for folder in folders:
            if folder not in there:
                self._ok(self.client.create(quoted(folder)))
        for number in range(1, count + 1):
            flags = ("", "\\Seen", "\\Seen \\Flagged", "\\Answered")[number % 4]
            self.put(number, "Archive" if number % 3 == 0 else "INBOX", flags)
        return self

    def put(self, number: int, folder: str = "INBOX", flags: str = "", content: bytes | None = None) -> None:
        content = maildirs.letter(number).replace(b"\nends", b"\r\nends") if content is None else content
        self._ok(self.client.append(quoted(folder), f"({flags})", DATE % (number % 60), content))

    def open(self, folder: str, *, write: bool = True) -> None:
        self._ok(self.client.select(quoted(folder), readonly=not write))

    def uids(self, folder: str, message_id: str = "") -> list[bytes]:
        self.open(folder)
        return self._uids(message_id)

    def flag(self, folder: str, message_id: str, flags: str, sign: str = "+") -> None:
        for uid in self.uids(folder, message_id):
            self._ok(self.client.uid("STORE", uid.decode(), f"{sign}FLAGS", f"({flags})"))

    def move(self, folder: str, message_id: str, to: str) -> None:
        for uid in self.uids(folder, message_id):
            self._ok(self.client.uid("MOVE", uid.decode(), quoted(to)))

    def copy(self, folder: str, message_id: str, to: str) -> None:
        for uid in self.uids(folder, message_id):
            self._ok(self.client.uid("COPY", uid.decode(), quoted(to)))

    def destroy(self, folder: str, message_id: str) -> None:
        for uid in self.uids(folder, message_id):
            self._ok(self.client.uid("STORE", uid.decode(), "+FLAGS", "(\\Deleted)"))
            self._ok(self.client.uid("EXPUNGE", uid.decode()))

    def made_anew(self, folder: str) -> None:
        """The same messages in a folder of the same name with another UIDVALIDITY."""
        aside = f"{folder}-{uuid4().hex[:6]}"
        self._ok(self.client.create(quoted(aside)))
        self.open(folder)
        if self._uids():
            self._ok(self.client.uid("COPY", "1:*", quoted(aside)))
        self.client.unselect() if "UNSELECT" in self.client.capabilities else self.open("INBOX", write=False)
        self._ok(self.client.delete(quoted(folder)))
        self._ok(self.client.rename(quoted(aside), quoted(folder)))

    # -- what there is -------------------------------------------------------------------------------------------------------

    def folders(self) -> list[str]:
        from takeback.tools.email.maildir.names import decode

        lines = self._ok(self.client.list())
        names: list[str] = []
        for line in lines:
            text = (b"".join(line) if isinstance(line, tuple) else line or b"").decode()
            found = re.match(r'\([^)]*\) (?:"."|NIL) (?:\{\d+\})?(.*)\Z', text, re.DOTALL)
            if found is not None and not re.match(r"\([^)]*\\(?:noselect|nonexistent)", text, re.IGNORECASE):
                name = found[1]
                if name.startswith('"'):
                    name = name[1:-1].replace('\\"', '"').replace("\\\\", "\\")
                names.append(decode(name))
        return names

    def tree(self) -> Tree:
        tree: Tree = Counter()
        for folder in self.folders():
            self.open(folder, write=False)
            if not self._uids():
                continue
            answer = self._ok(self.client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE BODY.PEEK[])"))
            for each in answer:
                if not isinstance(each, tuple):
                    continue
                head = each[0].decode()
                flags = re.search(r"FLAGS \(([^)]*)\)", head)
                date = re.search(r'INTERNALDATE "([^"]*)"', head)
                assert flags is not None
                assert date is not None
                words = tuple(sorted(word for word in flags[1].split() if word.lower() != "\\recent"))
                tree[folder, words, date[1].strip(), bytes(each[1])] += 1
        return tree

    def _uids(self, message_id: str = "") -> list[bytes]:
        criteria = ("HEADER", "MESSAGE-ID", message_id) if message_id else ("ALL",)
        answer = self._ok(self.client.uid("SEARCH", *criteria))
        return (answer[0] or b"").split()

    def wipe(self) -> None:
        """Everything away, for a server that has one account only."""
        for folder in self.folders():
            if folder == "INBOX":
                self.open(folder)
                if self._uids():
                    self._ok(self.client.uid("STORE", "1:*", "+FLAGS", "(\\Deleted)"))
                    self._ok(self.client.expunge())
        self.open("INBOX", write=False)
        for folder in sorted(self.folders(), reverse=True):
            if folder != "INBOX":
                self._ok(self.client.delete(quoted(folder)))

    def close(self) -> None:
        if self._client is not None:
            self._client.shutdown()
            self._client = None

    @staticmethod
    def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
        assert answer[0] == "OK", answer
        return answer[1]


def quoted(folder: str) -> str:
    from takeback.tools.email.maildir.names import encode

    name = encode(folder).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{name}"'


def message_id(number: int) -> str:
    return f"<m{number}@example.org>"
