"""`takeback serve --http`: one process, many clients, on a socket, from the first request to an orderly end.

It ends on SIGTERM and on SIGINT within five seconds: nothing new is taken, what is being done is given time to conclude, the
rest is cancelled (and its truth journaled by the engine), then the journal is closed. The process belongs to this function.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from takeback.server.mcp.discretion import log_to_stderr
from takeback.server.mcp.ending import (
    CLOSE_SECONDS,
    KILL_SECONDS,
    SETTLE_SECONDS,
    Beside,
    ForcedEnd,
    first,
    on_signals,
)
from takeback.server.mcp.http_gate import METADATA, PATH, Gate, Protected
from takeback.server.mcp.http_jwt import Keys, SignedTokens, from_file, from_url
from takeback.server.mcp.http_names import Names, is_loopback
from takeback.server.mcp.http_tokens import (
    KnownTokens,
    UnsafeToken,
    Verifier,
    check_given,
    digest_of,
    local_token,
    named_principal,
    token_file,
)
from takeback.server.mcp.http_wire import Listener, listening_socket
from takeback.server.mcp.identity import only_authenticated
from takeback.server.principal import local_principal
from takeback.server.settings import HTTP_TOKEN, HttpSettings, Settings, SettingsError
from takeback.server.watching import watched

if TYPE_CHECKING:
    from takeback.server.engine.engine import Engine

SESSIONS: Final = 1000
"""Sessions of the 2025 protocol that are kept at once."""
_END_SECONDS: Final = 0.8

_log = logging.getLogger("takeback")


@dataclass(frozen=True, slots=True)
class Doors:
    """Who may come in, and by which name the house is known."""

    verifiers: tuple[Verifier, ...]
    names: Names
    protected: Protected | None
    announcement: str
    """About the token, for the person who started the server."""


async def serve_http(settings: Settings, given_token: str | None = None) -> int:
    """Serve until the system ends it; the process's exit code.

    :param given_token: of whoever started the process; in place of the one in the data directory.
    :raises SettingsError: what is configured would let anybody in, or nobody.
    :raises Exception: what `Engine.open` raises, before anything is served.
    """
    log_to_stderr()
    doors = doors_of(settings, given_token)
    only_authenticated()
    from takeback.server.engine.detached import keep_sending
    from takeback.server.engine.engine import Engine
    from takeback.server.engine.recovery import RECOVERY_SECONDS
    from takeback.server.web.entering import entry_on_demand

    http = settings.http
    stop, forced = asyncio.Event(), ForcedEnd()
    with on_signals(stop), _bound(http) as listening:
        opening = asyncio.ensure_future(Engine.open(settings, recover_within=RECOVERY_SECONDS))
        if not await first(opening, stop):
            forced.after(KILL_SECONDS)
            opening.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await (await opening).close()
            forced.not_needed()
            return 0
        engine = opening.result()
        try:
            await keep_sending(engine, settings)
            gate = _gate(engine, settings, doors)
        except BaseException:
            await _closed(engine, CLOSE_SECONDS)
            raise
        care = Beside(engine.tend())
        listener = Listener.of(gate, seconds=http.request_seconds, connections=http.connections)
        async with watched(engine.core, settings, entry=entry_on_demand(settings)):
            serving = asyncio.create_task(listener.serve(sockets=[listening]))
            host, port = listening.getsockname()[:2]
            shown = f"[{host}]" if ":" in host else host
            print(
                f"takeback serves MCP at http://{shown}:{port}{PATH}\n{doors.announcement}", file=sys.stderr, flush=True
            )
            await first(serving, stop)
            forced.after(KILL_SECONDS)
        orderly = await _wind_up(engine, gate, listener, serving, care)
    if orderly:
        forced.not_needed()
    return 0


def _gate(engine: Engine, settings: Settings, doors: Doors) -> Gate:
    from mcp.server.transport_security import TransportSecuritySettings

    from takeback.server.mcp.app import build_server
    from takeback.server.web.links import links_of

    http, limits = settings.http, settings.limits
    app = build_server(engine, settings, links=links_of(settings)).streamable_http_app(
        streamable_http_path=PATH,
        max_request_body_size=limits.frame_bytes,
        max_sessions=SESSIONS,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),  # the gate has looked
    )
    return Gate(
        app,
        doors.names,
        doors.verifiers,
        body_bytes=limits.frame_bytes,
        seconds=http.request_seconds,
        protected=doors.protected,
    )


async def _wind_up(engine: Engine, gate: Gate, listener: Listener, serving: asyncio.Task[None], care: Beside) -> bool:
    """Let what was asked be answered, then end; whether nothing had to be cut off."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + SETTLE_SECONDS
    gate.close()
    listener.stop_listening()
    orderly = await care.end()
    if not await gate.settled(deadline - clock()):
        orderly = False
        _log.warning("Calls were still at work after %g s and are cancelled.", SETTLE_SECONDS)
    gate.cut()
    # Calls whose client has gone are at work too; and what was cancelled concludes its commit first.
    closed = await _closed(engine, max(CLOSE_SECONDS, deadline - clock()))
    listener.should_exit = True
    done, _ = await asyncio.wait({serving}, timeout=_END_SECONDS)
    for task in done:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("The HTTP server ended with %s.", type(error).__name__, exc_info=error)
    if not closed:
        closed = await _closed(engine, CLOSE_SECONDS / 4)
    if not closed:
        _log.warning("The journal is left as it is; the next start settles what was in flight.")
    return orderly and closed and bool(done)


async def _closed(engine: Engine, within: float) -> bool:
    try:
        async with asyncio.timeout(within):
            await engine.close()
    except TimeoutError:
        return False
    return True


def _bound(http: HttpSettings) -> contextlib.closing[socket.socket]:
    try:
        return contextlib.closing(listening_socket(http.host, http.port))
    except OSError as error:
        raise SettingsError(
            f"The server cannot listen on {http.host}, port {http.port}: {error.strerror or error}.",
            "Choose another one with --host and --port (0 takes any free port).",
        ) from error


# --- who may come in ----------------------------------------------------------------------------------------------------


def doors_of(settings: Settings, given_token: str | None) -> Doors:
    """What the settings say about who may come in.

    :raises SettingsError: nobody is asked for a token where others can come, or something does not fit together.
    """
    http = settings.http
    principals = {digest: named_principal(name) for name, digest in http.tokens.items()}
    words = [f"Tokens are known for {', '.join(http.tokens)}."] if http.tokens else []
    try:
        if given_token is not None:
            check_given(given_token)
            principals[digest_of(given_token)] = local_principal()
            words.append(f"The token is the one in {HTTP_TOKEN}.")
        elif not principals and http.issuer is None:
            if not is_loopback(http.host):
                raise SettingsError(
                    f"On {http.host} others could reach the server, and nothing says who may.",
                    f"Set [http.tokens], an issuer, or {HTTP_TOKEN}; or listen on 127.0.0.1.",
                )
            token, fresh = local_token(settings.data)
            principals[digest_of(token)] = local_principal()
            kept = f"It is kept in {token_file(settings.data)} (takeback token shows it)."
            words.append(f"Token: {token}\n{kept}" if fresh else kept.replace("It is", "The token is", 1))
    except UnsafeToken as error:
        raise SettingsError(error.message, error.advice) from error
    verifiers: list[Verifier] = [KnownTokens(principals)] if principals else []
    protected = _protected(http)
    if protected is not None:
        verifiers.append(_signed(http, protected))
        words.append(f"Tokens of {protected.issuer} for {protected.resource} are accepted.")
    if not is_loopback(http.host):
        words.append("The connection is not encrypted: put a proxy that ends TLS in front of it.")
    hosts = [*http.hosts, urlsplit(protected.resource).netloc] if protected is not None else http.hosts
    try:
        names = Names(http.host, hosts=hosts, origins=http.origins)
    except ValueError as error:
        raise SettingsError(f"In [http] hosts or origins {error}.", "Correct it in the configuration.") from error
    return Doors(tuple(verifiers), names, protected, "\n".join(words))


def _protected(http: HttpSettings) -> Protected | None:
    if http.issuer is None:
        if http.resource or http.jwks_url or http.jwks_file or http.required_scopes:
            raise SettingsError("[http] describes an issuer without naming it.", "Set issuer, or remove the rest.")
        return None
    if http.resource is None or (http.jwks_url is None) == (http.jwks_file is None):
        raise SettingsError(
            "[http] names an issuer without saying what its tokens are for, or where its keys are.",
            "Set resource (this server's own address), and one of jwks_url and jwks_file.",
        )
    for name, url in (("issuer", http.issuer), ("resource", http.resource), ("jwks_url", http.jwks_url)):
        parts = urlsplit(url or "")
        private = parts.scheme == "http" and parts.hostname is not None and is_loopback(parts.hostname)
        if url is not None and (not (parts.scheme == "https" or private) or not parts.netloc or parts.fragment):
            raise SettingsError(f"[http] {name} is not an https:// address.", "Write the whole address.")
    parts = urlsplit(http.resource)
    return Protected(
        resource=http.resource,
        issuer=http.issuer,
        scopes=http.required_scopes,
        metadata_url=f"{parts.scheme}://{parts.netloc}{METADATA}{parts.path.rstrip('/')}",
    )


def _signed(http: HttpSettings, protected: Protected) -> SignedTokens:
    source = from_file(http.jwks_file) if http.jwks_file is not None else from_url(http.jwks_url or "")
    return SignedTokens(Keys(source), issuer=protected.issuer, resource=protected.resource)
