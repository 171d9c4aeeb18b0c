"""Where the page of a data directory is: one page at a time, by lock; its port and its folder stay the same, so that links do.

The folder is random. Cookies know no ports: every program that listens on this machine's own address would be sent the page's,
if it were not bound to a folder whose name the others do not know.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from takeback.checkpoints.oslock import held

HOST: Final = "127.0.0.1"
LOCK_TRIES, LOCK_PAUSE = 10, 0.05
"""How often, and after how many seconds, the lock is asked for: whoever looks whether a page is open holds it for a moment."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where the page listens."""

    port: int
    base: str
    """The folder below which everything lies: a slash and a random name."""

    def url(self, place: str = "/") -> str:
        """Of a place on the page, without a key: it opens in a browser that is known already."""
        return f"http://{HOST}:{self.port}{self.base}{place}"


def folder(data: Path) -> Path:
    """What the page keeps in a data directory."""
    return data / "page"


@contextmanager
def alone(data: Path) -> Generator[bool]:
    """Be the one page of a data directory while inside; `False`: there is another one."""
    folder(data).mkdir(mode=0o700, parents=True, exist_ok=True)
    for attempt in range(LOCK_TRIES):
        with held(os.fspath(_lock(data)), wait=False) as mine:
            if mine or attempt == LOCK_TRIES - 1:
                try:
                    yield mine
                finally:
                    if mine:
                        with contextlib.suppress(
                            OSError
                        ):  # the data directory may be gone; without the lock it says nothing
                            _write(data, {**_read(data), "open": False})
                return
        time.sleep(LOCK_PAUSE)


def before(data: Path) -> Address:
    """Where the page was last; port 0 if there was none."""
    known = _read(data)
    port, base = known.get("port"), known.get("base")
    named = isinstance(base, str) and len(base) > 8 and base[0] == "/" and base[1:].isalnum() and base.isascii()
    return Address(
        port if isinstance(port, int) and 0 <= port < 65536 else 0,
        base if isinstance(base, str) and named else "/" + secrets.token_hex(8),
    )


def tell(data: Path, address: Address) -> None:
    """Let others know that the page is open there.

    :raises OSError:
    """
    # the process for whoever wants to end it
    _write(data, {"port": address.port, "base": address.base, "open": True, "process": os.getpid()})


def running(data: Path) -> Address | None:
    """Where the page is open now; None: it is not."""
    if not _lock(data).exists():
        return None
    try:
        with held(os.fspath(_lock(data)), wait=False) as idle:
            if idle:
                return None
    except OSError:
        return None
    return before(data) if _read(data).get("open") is True else None


def _lock(data: Path) -> Path:
    return folder(data) / "page.lock"


def _file(data: Path) -> Path:
    return folder(data) / "address.json"


def _read(data: Path) -> dict[str, Any]:
    try:
        known: object = json.loads(_file(data).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}  # pyright: ignore[reportUnknownVariableType] -- JSON


def _write(data: Path, known: dict[str, Any]) -> None:
    fresh = _file(data).with_suffix(f".{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        json.dump(known, file)
    fresh.replace(_file(data))
