"""Where the `takeback` script begins. `serve` and `version` start without terminal libraries: a client waits for them."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with its exit code.

    :param arguments: without the program's name; by default the process's own.
    """
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _run(given: Sequence[str]) -> int:
    if given[:1] == ["serve"] and not {"--help", "-h"} & set(given):
        from takeback.server.cli.serve import serve

        return serve(given[1:])
    if list(given) == ["--version"]:
        from importlib.metadata import version

        print(f"takeback {version('takeback')}")
        return 0
    from takeback.server.cli.app import run

    return run(given)
