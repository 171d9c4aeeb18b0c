"""`takeback serve`: the MCP server on standard input and output. Imports as little as it can before it answers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from takeback.server.roots import remember
from takeback.server.settings import SettingsError, load

USAGE = 2
TAKEN = ("--workspace", "--data", "--config")


def serve(given: Sequence[str]) -> int:
    """Serve until the client goes away; the exit code.

    Standard output belongs to the protocol: whatever there is to say goes to standard error.
    """
    try:
        options = _options(given)
        settings = load(
            next(iter(options["--config"][-1:]), None),
            roots=options["--workspace"],
            data=next(iter(options["--data"][-1:]), None),
        ).settings
        _check_roots(settings.workspace.roots)
    except SettingsError as error:
        print(f"{error.message}\n{error.advice}", file=sys.stderr)
        return USAGE
    remember(settings.data, settings.workspace.roots)
    from takeback.server.mcp.serve import serve_stdio

    try:
        return asyncio.run(serve_stdio(settings))
    except BaseException as error:
        return _told(error)


def _told(error: BaseException) -> int:
    """Say on standard error why serving could not begin or go on; a client shows that in its log."""
    from takeback.server.cli.failures import explain

    failure = explain(error)
    if failure is None:
        raise error
    print(f"{failure.message}\n{failure.advice}", file=sys.stderr)
    return failure.code


def _options(given: Sequence[str]) -> dict[str, list[Path]]:
    options: dict[str, list[Path]] = {name: [] for name in TAKEN}
    rest = list(given)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name not in options:
            raise SettingsError(
                f"takeback serve does not know {name}.", "It takes --workspace DIR, --data DIR, --config FILE."
            )
        if not equals:
            if not rest:
                raise SettingsError(f"{name} needs a value.", "See takeback serve --help.")
            value = rest.pop(0)
        options[name].append(Path(value))
    return options


def _check_roots(roots: Sequence[Path]) -> None:
    if not roots:
        raise SettingsError(
            "No workspace folder is configured.", "Start with --workspace DIR, or set [workspace] roots in the file."
        )
    for root in roots:
        if not root.is_dir():
            raise SettingsError(f"The workspace folder {root} does not exist.", "Create it, or name another one.")
