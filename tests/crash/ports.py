"""Ports between the engine and what is below it that stop, fail, or take effect and then fail, at their n-th call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Literal

from tests.server.engine.reaper import Died

from takeback.checkpoints.objects import QuotaExceeded
from takeback.journal.log import JournalBroken, JournalFull
from takeback.server.engine.core import Core
from takeback.tools.system import Unavailable

How = Literal["stops before", "stops after", "fails", "takes effect and fails"]
HOW: tuple[How, ...] = ("stops before", "stops after", "fails", "takes effect and fails")


class Faults:
    """Counts the calls of all ports together."""

    def __init__(self, at: int, how: How) -> None:
        self.at, self.how, self.count, self.dead, self.broken = at, how, 0, False, False

    @property
    def reached(self) -> bool:
        """Whether it came to the n-th call at all."""
        return self.count >= self.at

    def wrapped(self, call: Callable[..., Awaitable[Any]], failed: Callable[[], Exception]) -> Callable[..., Any]:
        """The call; `failed` makes what it raises when nothing has happened."""
        journal = failed is _full

        async def port(*given: Any, **more: Any) -> Any:
            if self.dead:
                raise Died
            if journal and self.broken:
                raise JournalBroken("an earlier write failed")
            self.count += 1
            if self.count != self.at:
                return await call(*given, **more)
            match self.how:
                case "stops before":
                    self.dead = True
                    raise Died
                case "fails":
                    raise failed()
                case "stops after":
                    await call(*given, **more)
                    self.dead = True
                    raise Died
                case "takes effect and fails":
                    await call(*given, **more)
                    if journal:
                        # what a journal promises after a write whose outcome it does not know
                        self.broken = True
                        raise JournalBroken("the write failed")
                    raise OSError(5, "input/output error")

        return port

    def interpose(self, core: Core) -> None:
        """Let everything that changes something pass through here."""
        journal, objects = core.journal, core.objects
        for port, name, failed in [
            (journal, "append", _full),
            (journal, "drop_blobs", _full),
            (objects, "put", _quota),
            (objects, "put_stream", _quota),
            (objects, "sweep_files", _disk),
            *(
                (system, name, _unavailable)
                for system in core.systems.values()
                for name in ("swap", "swap_each", "collect")
            ),
        ]:
            setattr(port, name, self.wrapped(getattr(port, name), failed))


def _full() -> Exception:
    return JournalFull("the disk is full")


def _quota() -> Exception:
    return QuotaExceeded("the store is full")


def _disk() -> Exception:
    return OSError(28, "no space left on device")


def _unavailable() -> Exception:
    return Unavailable("It is out of reach for a moment.")
