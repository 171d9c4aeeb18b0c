"""Where the bundle begins: turns what the client fills in into the options of `takeback serve`.

Several folders arrive as several words; an optional setting that nobody filled in may arrive empty or as its own placeholder.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def options(given: Sequence[str]) -> list[str]:
    """The words of the command line for the words that the client gives."""
    words = ["serve"]
    for word in given:
        value = word.removeprefix("--data=")
        if value and not value.startswith("${"):
            words += ["--workspace" if value == word else "--data", value]
    return words


if __name__ == "__main__":
    from takeback.server.cli import main

    main(options(sys.argv[1:]))
