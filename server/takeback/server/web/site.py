"""What lies where on the page, and how a place answers."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from importlib.resources import files
from typing import Final

from takeback.journal.events import Caller
from takeback.server.engine.answers import EngineError
from takeback.server.engine.engine import Engine
from takeback.server.engine.work import where
from takeback.server.web import approvals, editing, home, mail, open_items, plans, runs
from takeback.server.web.bench import Bench
from takeback.server.web.exchange import Request, Response
from takeback.server.web.forms import Forms, Sending
from takeback.server.web.frame import TOKEN_FIELD, Visit, refused, see, told
from takeback.server.web.visitors import Visitors

log = logging.getLogger("takeback")

Place = Callable[..., Awaitable[Response]]
"""Takes the visit and the parts of its path that are names."""

_NAME: Final = r"([A-Za-z0-9_.:-]{1,100})"


def _places(*given: tuple[str, Place]) -> tuple[tuple[re.Pattern[str], Place], ...]:
    return tuple((re.compile(pattern.replace("*", _NAME)), place) for pattern, place in given)


LOOK: Final = _places(
    ("/", home.show),
    ("/approvals", approvals.listing),
    ("/approvals/*", approvals.one),
    ("/open", open_items.listing),
    ("/open/*", open_items.one),
    ("/open/*/version/*", open_items.download),
    ("/mail", mail.listing),
    ("/mail/*", mail.one),
    ("/runs", runs.listing),
    ("/runs/*", runs.one),
    ("/runs/*/changes", runs.changes),
    ("/runs/*/report", runs.whole_report),
    ("/runs/*/rollback", plans.plan_rollback),
    ("/rollbacks/*", plans.told),
    ("/rollbacks/*/redo", plans.plan_redo),
)
"""What is asked for: nothing changes by it."""

ACT: Final = _places(
    ("/approvals/*/approve", approvals.approve),
    ("/approvals/*/deny", approvals.deny),
    ("/open/*/resolve", open_items.resolve),
    ("/mail/*/cancel", mail.cancel),
    ("/mail/*/send", mail.send),
    ("/mail/*/approve", mail.approve),
    ("/mail/*/hold", mail.hold),
    ("/mail/*/edit", editing.edit),
    ("/mail/*/settle", mail.settle),
    ("/runs/*/contain", runs.contain),
    ("/runs/*/release", runs.release),
    ("/runs/*/take", runs.take),
    ("/runs/*/return", runs.give_back),
    ("/runs/*/rollback", plans.do_rollback),
    ("/runs/*/rollback/consent/*", plans.do_rollback),
    ("/rollbacks/*/redo", plans.do_redo),
    ("/rollbacks/*/redo/consent/*", plans.do_redo),
)
"""What is sent: each by a form that was made for it."""

STATIC: Final[Mapping[str, str]] = {
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


class Site:
    """Answers requests that the gate let through."""

    def __init__(self, bench: Bench, visitors: Visitors, caller: Caller, base: str) -> None:
        self._bench, self._visitors, self._caller, self._base = bench, visitors, caller, base
        self._forms = Forms()
        # by name, so that no path of a request is ever one of the file system
        folder = files("takeback.server.web") / "static"
        self._static = {f"/static/{name}": ((folder / name).read_bytes(), kind) for name, kind in STATIC.items()}

    def public(self, path: str) -> Response | None:
        """What may be had without being known: how the page looks."""
        found = self._static.get(path)
        return None if found is None else Response(found[0], kind=found[1])

    async def answer(self, request: Request) -> Response:
        """The answer to somebody who is known. Whatever goes wrong is told, and nothing of what the error says."""
        try:
            return await self._answer(request)
        except Exception as error:
            log.error("the page failed at %s with %s", request.path, where(error))
            words = f"Something went wrong here ({type(error).__name__})."
            advice = "Nothing is called done that is not in the journal: look at the run, then try again."
            return told(self._base, "Something went wrong", words, advice, status=500)

    async def _answer(self, request: Request) -> Response:
        if request.method == "POST" and (early := self._checked(request)) is not None:
            return early
        if request.path == "/leave" and request.method == "POST":
            self._visitors.leave(request.session)
            return told(self._base, "Signed out", "This browser is not known any more.", _ASK, status=200)
        for pattern, place in ACT if request.method == "POST" else LOOK:
            match = pattern.fullmatch(request.path)
            if match is not None:
                return await self._answered(request, place, match.groups())
        if request.path == "/state" and request.method == "GET":
            async with self._bench.at_work() as engine:
                return _json({"position": await engine.core.journal.position()})
        other = LOOK if request.method == "POST" else ACT
        if any(pattern.fullmatch(request.path) for pattern, _ in other):
            return told(self._base, "Not like this", "This address takes another kind of request.", "", status=405)
        return told(self._base, "There is nothing here", "This address leads nowhere.", "", status=404)

    def _checked(self, request: Request) -> Response | None:
        match self._forms.spend(request.session, request.path, request.one(TOKEN_FIELD)):
            case Sending.GOOD:
                return None
            case Sending.SPENT:
                return see(f"{self._base}/?said=again")
            case Sending.FOREIGN:
                words = "The form is too old, or was not made by this page. Nothing was done."
                return told(
                    self._base, "Look once more", words, "Go back, load the page anew, and send it again.", status=403
                )

    async def _answered(self, request: Request, place: Place, names: tuple[str, ...]) -> Response:
        async with self._bench.at_work() as engine:
            visit = await self._visit(request, engine)
            try:
                return await place(visit, *names)
            except EngineError as error:
                return refused(visit, error)

    async def _visit(self, request: Request, engine: Engine) -> Visit:
        position = await engine.core.journal.position()
        return Visit(request, engine, self._caller, self._forms, self._base, position)


_ASK: Final = "To open the page again, run takeback web --url, and open what it prints."


def _json(value: object) -> Response:
    return Response(json.dumps(value).encode("ascii"), kind="application/json")
