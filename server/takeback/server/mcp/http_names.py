"""Under which names the HTTP server may be addressed, and which web pages may address it. Pure: no IO.

A web page can make a browser resolve the page's own name to this machine (DNS rebinding). The request then still carries that
name as `Host`, and the page's as `Origin`: so both are taken apart and compared, never searched for a piece of text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LOOPBACK_NAMES: Final[tuple[str, ...]] = ("localhost", "127.0.0.1", "::1")

_AUTHORITY: Final = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253})(?::([0-9]{1,5}))?")
_ORIGIN: Final = re.compile(r"(https?)://([^/?#@\\\s]+)")
_USUAL: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Authority:
    """A host and a port, as a `Host` header or an origin names them."""

    host: str
    """Lower case; an IPv6 address without its brackets, in its shortest spelling."""
    port: int | None
    """None: not said, or the usual one of the scheme."""


def authority_of(text: str, *, scheme: str = "http") -> Authority | None:
    """What a `Host` header says; None if it is not one host with at most one port."""
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return None
    host, port = match[1].lower(), int(match[2]) if match[2] is not None else None
    if port is not None and not 0 < port < 65536:
        return None
    if host.startswith("["):
        try:
            host = str(ipaddress.IPv6Address(host[1:-1]))
        except ValueError:
            return None
    return Authority(host, None if port == _USUAL.get(scheme) else port)


def origin_of(text: str) -> tuple[str, Authority] | None:
    """The scheme and authority of an `Origin` header; None for `null` and everything else that is no web origin."""
    match = _ORIGIN.fullmatch(text)
    authority = authority_of(match[2], scheme=match[1]) if match is not None else None
    return (match[1], authority) if match is not None and authority is not None else None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_any(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


class Names:
    """Decides by `Host` and `Origin`."""

    def __init__(self, bound: str, *, hosts: Iterable[str] = (), origins: Iterable[str] = ()) -> None:
        """
        :param bound: the address that is listened on: a name of the server too; if it means all addresses, any address is.
        :param hosts: further names, `name` (any port) or `name:port`.
        :param origins: web origins besides the server's own.
        :raises ValueError: one of them is not written as such.
        """
        # A page elsewhere cannot be addressed as localhost, so the port (of a tunnel, say) decides nothing there.
        self._all = _is_any(bound)
        self._any_port: set[str] = {*LOOPBACK_NAMES} if self._all or is_loopback(bound) else set()
        if not self._all:
            self._any_port.add(_bare(bound))
        self._with_port: set[Authority] = set()
        for host in hosts:
            named = authority_of(host)
            if named is None:
                raise ValueError(f"{host!r} is not a host name, with or without a port")
            if named.port is None and not host.endswith(":80"):
                self._any_port.add(named.host)
            else:
                self._with_port.add(named)
        self._origins: set[tuple[str, Authority]] = set()
        for text in origins:
            origin = origin_of(text)
            if origin is None:
                raise ValueError(f"{text!r} is not an origin such as https://app.example.org")
            self._origins.add(origin)

    def host(self, text: str) -> Authority | None:
        """The authority that a request is addressed to; None if it is none of ours."""
        named = authority_of(text)
        if named is None:
            return None
        # A bare address is nobody's name, so no page can have been given it: whoever listens on all of them has them all.
        ours = named.host in self._any_port or named in self._with_port or (self._all and _is_address(named.host))
        return named if ours else None

    def origin(self, text: str, host: str) -> bool:
        """Whether a page of this origin may address the server.

        :param host: the request's `Host`, which has been found to be ours.
        """
        origin = origin_of(text)
        if origin is None:
            return False
        # behind a proxy that ends TLS the page's scheme is https while the request's is http
        return origin in self._origins or origin[1] == authority_of(host, scheme=origin[0])


def _bare(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower()
