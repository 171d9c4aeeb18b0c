"""A tool that does not exist, in words from which a model finds the one that it meant. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from typing import Final

from mcp.shared.exceptions import MCPError
from mcp_types import INVALID_PARAMS

from takeback.server.engine.wording import listed, name

CLOSEST: Final = 3
"""Names that are offered."""
ALIKE: Final = 0.6
"""How much alike (1.0: the same) a name has to be to be offered."""
LONGEST: Final = 128
"""Characters of a name that are compared and repeated; a tool's has no more."""
ADVICE: Final = "List the tools, and call one of them by its exact name."


def unknown_tool(asked: str, names: Iterable[str]) -> MCPError:
    """The error of the protocol for a call of a tool that there is not: `-32602`, one sentence of fact, one of advice.

    :param asked: the name as it came; nothing of it is believed.
    :param names: those that there are.
    """
    close = [name(each) for each in closest(asked[:LONGEST], names)]
    offered = f"; closest {'is' if len(close) == 1 else 'are'} {listed(close)}" if close else ""
    return MCPError(code=INVALID_PARAMS, message=f"There is no tool {name(asked[:LONGEST])}{offered}. {ADVICE}")


def closest(asked: str, names: Iterable[str]) -> list[str]:
    """The names that are most like what was asked for, whatever its case, its hyphens and the server's name before it."""
    wanted = _plain(asked)
    alike = {each: _alike(wanted, _plain(each)) for each in names}
    return [each for each in sorted(alike, key=lambda each: (-alike[each], each)) if alike[each] >= ALIKE][:CLOSEST]


def _alike(wanted: str, name: str) -> float:
    # a client's prefix ("takeback:read_file") says nothing about the tool
    return max(SequenceMatcher(None, each, name).ratio() for each in (wanted, wanted[-len(name) :]))


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())
