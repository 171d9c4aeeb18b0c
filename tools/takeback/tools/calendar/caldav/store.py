"""A calendar on a CalDAV server.

Raw bytes come by GET alone, with the ETag of the same answer: what a REPORT puts into XML has lost its line ends. Every write
carries `If-Match` or `If-None-Match: *`, and a resource without a strong ETag is not written to at all.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NoReturn

from takeback.tools.calendar.caldav.addresses import Elsewhere, address, collection, name_of, usable
from takeback.tools.calendar.caldav.content import events, uids
from takeback.tools.calendar.caldav.http import DEFAULT_LIMITS, Answer, Http, Limits, failure, not_known
from takeback.tools.calendar.caldav.multistatus import (
    DAV,
    BadXml,
    Response,
    preconditions,
    propfind,
    query_uid,
    responses,
)
from takeback.tools.calendar.port import CalendarStore, Changed, Resource
from takeback.tools.system import Refused, TargetError, Unavailable

FEW: Final = 8
"""So many resources are asked for one by one; for more, the listing says first which ones have changed."""
AT_ONCE: Final = 8
KEPT_BYTES: Final = 64 * 1024 * 1024
"""Of resources, by name and ETag: a strong ETag stands for the same bytes (RFC 9110), so they need not be fetched again."""
_ETAG: Final = propfind((DAV, "getetag"), (DAV, "resourcetype"))
_WRONG_CONTENT: Final = {
    "valid-calendar-data": "it is no valid iCalendar",
    "valid-calendar-object-resource": "it is not one event with one UID",
    "supported-calendar-data": "it does not take this kind of data",
    "supported-calendar-component": "this calendar does not take this kind of entry",
    "max-resource-size": "it is too large for it",
    "min-date-time": "a date is too early for it",
    "max-date-time": "a date is too late for it",
    "max-instances": "it repeats too often for it",
    "max-attendees-per-instance": "it has too many guests for it",
}
"""Preconditions of RFC 4791 that a write can fail."""


class CaldavStore(CalendarStore):
    """One collection on a server. `mails_by_itself` holds from the start until the server has said otherwise."""

    local = False
    rewrites = True

    def __init__(self, url: str, username: str, password: str, *, limits: Limits = DEFAULT_LIMITS) -> None:
        self._base = collection(url)
        self._http = Http(self._base, username, password, limits)
        self._host = self._http.host
        self.mails_by_itself = True
        self._learned = asyncio.Lock()
        self._knows = False
        self._kept: OrderedDict[str, Resource] = OrderedDict()
        self._kept_bytes = 0

    async def learn(self) -> None:
        """Ask the server what it can do, once.

        :raises Refused: it knows no CalDAV at this address.
        """
        async with self._learned:
            if self._knows:
                return
            answer = await self._http.send("OPTIONS", self._base)
            if not 200 <= answer.status < 300:
                raise failure(answer, self._host, "OPTIONS")
            can = {each.strip().lower() for each in ",".join(answer.headers.get_list("dav")).split(",")}
            if "calendar-access" not in can:
                raise Refused(
                    f"{self._host} offers no calendars at this address.",
                    advice="Check that the url is that of a CalDAV calendar.",
                )
            # a "draft" or versioned spelling counts too: taken wrongly for mailing, nothing is mailed unseen
            self.mails_by_itself = any(each.startswith("calendar-auto-schedule") for each in can)
            self._knows = True

    async def names(self) -> Sequence[tuple[str, str]]:
        await self.learn()
        headers = {"Depth": "1", "Content-Type": "application/xml; charset=utf-8"}
        answer = await self._http.send("PROPFIND", self._base, headers=headers, body=_ETAG)
        if answer.status != 207:
            raise failure(answer, self._host, "PROPFIND")
        listed: dict[str, str] = {}
        for response, name in self._members(answer):
            kind = response.found.first("resourcetype")
            if response.status == 507:
                raise Refused(f"{self._host} lists only a part of this calendar.", advice="Use a smaller calendar.")
            if name is None or (kind is not None and kind.first("collection") is not None):
                continue
            tag = response.found.first("getetag")
            listed[name] = tag.text.strip() if tag is not None else ""
        return sorted(listed.items())

    async def read(self, names: Sequence[str]) -> Sequence[Resource | None]:
        await self.learn()
        now = dict(await self.names()) if len(set(names)) > FEW else None
        places = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Resource | None:
            kept = self._kept.get(name)
            if now is not None and kept is not None and now.get(name) == kept.etag:
                self._kept.move_to_end(name)
                return kept
            async with places:
                return await self._get(name)

        distinct = list(dict.fromkeys(names))
        tasks = [asyncio.ensure_future(one(name)) for name in distinct]
        try:
            found = dict(zip(distinct, await asyncio.gather(*tasks), strict=True))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [found[name] for name in names]

    async def find(self, uid: str) -> Resource | None:
        await self.learn()
        if not uid.isprintable() or not uid:
            return None
        headers = {"Depth": "1", "Content-Type": "application/xml; charset=utf-8"}
        answer = await self._http.send("REPORT", self._base, headers=headers, body=query_uid(uid))
        if answer.status != 207:
            raise failure(answer, self._host, "REPORT")
        candidates = sorted({name for _, name in self._members(answer) if name is not None})
        for found in await self.read(candidates):
            # the query answers with texts that contain it, and some servers with all they have
            if found is not None and uid in uids(found.data):
                return found
        return None

    async def write(self, name: str, data: bytes, expected: Resource | None) -> Resource | Changed:
        await self.learn()
        headers = {"Content-Type": "text/calendar; charset=utf-8"}
        answer = await self._change("PUT", name, headers, expected, data)
        if isinstance(answer, Changed):
            return answer
        try:
            after = await self._get(name)
        except TargetError as error:
            raise TargetError(
                f"The event was written at {self._host}, but what it is now could not be read: {error}",
                advice="Look at the calendar before anything is tried again.",
            ) from error
        if after is None:
            raise not_known(f"{self._host} took the event, and then it was not there")
        said = answer.headers.get("etag", "")
        # by the ETag of the write it is known that these are our bytes; without one, by what they say
        if not (strong(said) and said == after.etag) and after.data != data and events(after.data) != events(data):
            raise not_known(f"{self._host} took the event, and then it was not as it had been written")
        return after

    async def remove(self, name: str, expected: Resource) -> Changed | None:
        await self.learn()
        answer = await self._change("DELETE", name, {}, expected, None)
        if isinstance(answer, Changed):
            return answer
        try:
            after = await self._get(name)
        except TargetError as error:
            raise TargetError(
                f"The event was deleted at {self._host}, but that it is gone could not be seen: {error}",
                advice="Look at the calendar before anything is tried again.",
            ) from error
        if after is not None:
            raise not_known(f"{self._host} deleted the event, and then something was there")
        return None

    async def close(self) -> None:
        await self._http.close()

    async def _change(
        self, method: str, name: str, headers: dict[str, str], expected: Resource | None, body: bytes | None
    ) -> Answer | Changed:
        """The server's yes, or what is there instead."""
        where = address(self._base, name)
        for _ in range(2):
            if expected is None:
                condition = {"If-None-Match": "*"}
            elif strong(expected.etag):
                condition = {"If-Match": expected.etag}
            else:
                raise Refused(
                    f"{self._host} gives no strong ETag for {name}, so nothing can be written without the risk of "
                    "overwriting somebody else's change.",
                    advice="Change this event in the calendar's own program.",
                )
            answer = await self._http.send(method, where, headers={**headers, **condition}, body=body)
            self._forget(name)
            if answer.status in (200, 201, 204):
                return answer
            if answer.status not in (404, 410, 412) or (answer.status != 412 and expected is None):
                self._refuse(answer, method, name)
            present = await self._get(name)
            if (present and present.data) != (expected and expected.data):
                return Changed(present)
            # the same bytes under another ETag (saved again unchanged, or deleted and put back): still as expected
            expected = present
        raise Unavailable(
            f"{self._host} refused to write {name}, though it was as expected.", advice="Try again later."
        )

    def _refuse(self, answer: Answer, method: str, name: str) -> NoReturn:
        if answer.status in (403, 405, 409, 415, 422):
            conditions = preconditions(answer.body)
            if "no-uid-conflict" in conditions:
                raise Refused(
                    f"Another event of this calendar or user has the UID of {name} already; nothing was changed.",
                    advice="Find that event by its UID and change it instead.",
                )
            for each in sorted(conditions & _WRONG_CONTENT.keys()):
                raise Refused(f"{self._host} does not take {name}: {_WRONG_CONTENT[each]}; nothing was changed.")
            if answer.status == 409:
                raise Refused(
                    f"{self._host} finds a conflict in {name} (often an event with the same UID under another name, "
                    "or a calendar that is not there); nothing was changed.",
                    advice="Find the event by its UID, and check the url in the configuration.",
                )
        raise failure(answer, self._host, method)

    async def _get(self, name: str) -> Resource | None:
        if not usable(name):
            return None
        kept = self._kept.get(name)
        headers = {"If-None-Match": kept.etag} if kept is not None else {}
        answer = await self._http.send("GET", address(self._base, name), headers=headers)
        if answer.status == 304 and kept is not None:
            return kept
        self._forget(name)
        if answer.status in (404, 410):
            return None
        if answer.status != 200:
            raise failure(answer, self._host, "GET")
        found = Resource(name, answer.body, answer.headers.get("etag", ""))
        if strong(found.etag):
            self._keep(found)
        return found

    def _keep(self, resource: Resource) -> None:
        self._forget(resource.name)
        self._kept[resource.name] = resource
        self._kept_bytes += len(resource.data)
        while self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popitem(last=False)[1].data)

    def _forget(self, name: str) -> None:
        old = self._kept.pop(name, None)
        if old is not None:
            self._kept_bytes -= len(old.data)

    def _members(self, answer: Answer) -> list[tuple[Response, str | None]]:
        try:
            return [(each, name_of(self._base, each.href)) for each in responses(answer.body)]
        except Elsewhere:
            raise Refused(
                f"{self._host} answers with an address outside of this calendar, or a name that cannot be used.",
                advice="Check that the url in the configuration is exactly that of the calendar.",
            ) from None
        except BadXml as error:
            raise Refused(f"What {self._host} answers cannot be read: {error}.") from None


def strong(etag: str) -> bool:
    """Whether equal ETags mean equal bytes."""
    return len(etag) > 2 and etag.startswith('"') and etag.endswith('"')
