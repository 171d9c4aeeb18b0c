"""`takeback serve`: the MCP server on standard streams or over HTTP. Imports as little as it can before it answers."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from takeback.server.roots import remember
from takeback.server.settings import HTTP_TOKEN, Settings, SettingsError, load

USAGE = 2
TAKEN = ("--workspace", "--data", "--config")
HTTP_TAKEN = ("--host", "--port")
HTTP = "--http"


def serve(given: Sequence[str]) -> int:
    """Serve until the client goes away (over HTTP: until a signal); the exit code.

    Standard output belongs to the protocol: whatever there is to say goes to standard error.
    """
    try:
        options = _options(given)
        settings = load(
            next((Path(file) for file in options["--config"][-1:]), None),
            roots=[Path(root) for root in options["--workspace"]],
            data=next((Path(folder) for folder in options["--data"][-1:]), None),
        ).settings
        settings = _listening(settings, options)
        _check_roots(settings.workspace.roots)
    except SettingsError as error:
        print(f"{error.message}\n{error.advice}", file=sys.stderr)
        return USAGE
    # Taken out of the environment, so that no program started from here inherits it.
    token = os.environ.pop(HTTP_TOKEN, None)
    remember(settings.data, settings.workspace.roots)
    try:
        if options[HTTP]:
            from takeback.server.mcp.http_serve import serve_http

            return asyncio.run(serve_http(settings, token))
        from takeback.server.mcp.serve import serve_stdio

        return asyncio.run(serve_stdio(settings))
    except BaseException as error:
        return _told(error)


def _listening(settings: Settings, options: Mapping[str, Sequence[str]]) -> Settings:
    """With `--host` and `--port` over what is configured."""
    given = {name: options[f"--{name}"][-1] for name in ("host", "port") if options[f"--{name}"]}
    if not given:
        return settings
    if not options[HTTP]:
        raise SettingsError("--host and --port are for serving over HTTP.", "Add --http, or leave them out.")
    port = given.get("port", "0")
    if not (port.isascii() and port.isdigit() and int(port) < 65536):
        raise SettingsError(f"{port} is not a port.", "Give a number from 0 to 65535; 0 takes a free one.")
    changed = {name: int(value) if name == "port" else value for name, value in given.items()}
    return settings.model_copy(update={"http": settings.http.model_copy(update=changed)})


def _told(error: BaseException) -> int:
    """Say on standard error why serving could not begin or go on; a client shows that in its log."""
    from takeback.server.cli.failures import explain

    failure = explain(error)
    if failure is None:
        raise error
    print(f"{failure.message}\n{failure.advice}", file=sys.stderr)
    return failure.code


def _options(given: Sequence[str]) -> dict[str, list[str]]:
    options: dict[str, list[str]] = {name: [] for name in (*TAKEN, *HTTP_TAKEN, HTTP)}
    rest = list(given)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in options or (name == HTTP and equals):
            raise SettingsError(
                f"takeback serve does not know {name}.",
                "It takes --workspace DIR, --data DIR, --config FILE; --http, --host ADDRESS, --port NUMBER.",
            )
        if name != HTTP and not equals:
            if not rest:
                raise SettingsError(f"{name} needs a value.", "See takeback serve --help.")
            value = rest.pop(0)
        options[name].append(value)
    return options


def _check_roots(roots: Sequence[Path]) -> None:
    if not roots:
        raise SettingsError(
            "No workspace folder is configured.", "Start with --workspace DIR, or set [workspace] roots in the file."
        )
    for root in roots:
        if not root.is_dir():
            raise SettingsError(f"The workspace folder {root} does not exist.", "Create it, or name another one.")
