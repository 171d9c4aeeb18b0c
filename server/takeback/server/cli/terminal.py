"""Shows blocks: rich tables on a terminal, aligned text in a pipe, pure JSON on request. The only place that prints.

rich is imported only when there is a terminal to be rich on.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from takeback.server.cli.blocks import Block, Blocks, Cell, Diff, Id, Line, Piece, Places, Table, Tone, short
from takeback.server.engine.report import shown, shown_lines

if TYPE_CHECKING:
    from rich.console import Console

Progress = Callable[[float, float | None, str], Awaitable[None]]

_STYLES: dict[Tone, str] = {
    "plain": "",
    "strong": "bold",
    "faint": "dim",
    "good": "green",
    "warn": "yellow",
    "bad": "bold red",
}


MOST_OBJECTS = 3
"""Objects of one step that are named."""
_WHOLE = 20
"""Characters up to which a column is not broken while there is room: a time has as many."""
_NARROW = 8
"""Characters that a column of sentences needs in order to be readable."""


class Terminal:
    """Standard output and error of one command."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        self.rich = sys.stdout.isatty() and not as_json

    def show(self, blocks: Blocks, value: object = None) -> None:
        """Print the blocks, or with `--json` the value they were made from."""
        if self.as_json:
            self.json(value)
        elif self.rich:
            _print_rich(_console(), blocks)
        else:
            _write("".join(f"{text}\n" for text in plain(blocks)))

    def json(self, value: object) -> None:
        """Print one JSON document. Everything beyond ASCII is escaped, so that nothing in it can act on a terminal."""
        _write(json.dumps(_jsonable(value), indent=2) + "\n")

    def aside(self, blocks: Blocks) -> None:
        """Say something on standard error: questions, plans before a question in JSON mode, notes."""
        sys.stderr.write("".join(f"{text}\n" for text in plain(blocks)))
        sys.stderr.flush()

    def fail(self, code: str, message: str, advice: str) -> None:
        """Say what went wrong: one sentence of fact, one of advice."""
        if self.as_json:
            self.json({"error": {"code": code, "message": message, "advice": advice}})
            return
        self.aside([Line((message,)), *([Line((advice,))] if advice else [])])

    def ask(self, question: str) -> bool | None:
        """A person's yes or no. `None`: there is nobody to ask."""
        if not sys.stdin.isatty():
            return None
        sys.stderr.write(f"{shown(question)} [y/N] ")
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}

    @asynccontextmanager
    async def progress(self, what: str) -> AsyncGenerator[Progress]:
        """A bar on standard error while something long is done; silent where nobody is looking."""
        if self.as_json or not sys.stderr.isatty():
            yield _silent
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=None)

            async def tell(done: float, total: float | None, words: str) -> None:
                bar.update(task, completed=done, total=total)

            yield tell


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        # whoever read the output has seen enough; the command itself goes on to its end, and so does the interpreter's flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


async def _silent(done: float, total: float | None, words: str) -> None:
    """Tell nobody."""


def plain(blocks: Blocks) -> Iterable[str]:
    """The blocks as lines of text without colours: ids whole, columns aligned by two spaces."""
    for block in blocks:
        yield from _plain(block)


def _plain(block: Block) -> Iterable[str]:
    match block:
        case Line(pieces, indent):
            yield ("  " * indent + " ".join(text for piece in pieces if (text := _whole(piece)))).rstrip()
        case Table(columns, rows, title):
            if title:
                yield shown(title)
            table = [columns, *(tuple(_whole(cell) for cell in row) for row in rows)]
            widths = [max(len(row[index]) for row in table) for index in range(len(columns))]
            for row in table:
                yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        case Diff(text, title):
            if title:
                yield shown(title)
            yield from shown_lines(text).splitlines()


def _whole(piece: Piece) -> str:
    match piece:
        case str():
            return shown(piece)
        case Cell(words) | Id(words):
            return shown(words)
        case Places(objects):
            return _listed([shown(each) for each in objects])


def _listed(objects: Sequence[str], between: str = ", ") -> str:
    # one statement changes a hundred rows
    more = len(objects) - MOST_OBJECTS
    named = between.join(objects if more < 2 else objects[:MOST_OBJECTS])
    return named if more < 2 else f"{named}{between.replace(', ', ' ')}and {more:,} more"


def from_here(object: str) -> str:
    """A path below the working directory, or what lies in a database there, relative to it; anything else as it is."""
    here = os.getcwd().rstrip(os.sep) + os.sep
    return object.removeprefix(here).removeprefix(f"files:{here}") or object


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, emoji=False, markup=False, soft_wrap=False)


def _print_rich(console: Console, blocks: Blocks) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    def text(piece: Piece) -> Text:
        match piece:
            case str():
                return Text(shown(piece))
            case Cell(words, tone):
                return Text(shown(words), style=_STYLES[tone])
            case Id(words):
                return Text(shown(short(words)), style="cyan")
            case Places(objects):
                return Text(_listed([shown(from_here(each)) for each in objects], "\n"))  # a cell has lines of its own

    for block in blocks:
        match block:
            case Line(pieces, indent):
                console.print(Padding(Text(" ").join(text(piece) for piece in pieces), (0, 0, 0, 2 * indent)))
            case Table(columns, rows, title):
                table = RichTable(
                    title=shown(title) or None,
                    title_justify="left",
                    header_style="bold",
                    box=SIMPLE_HEAD,
                    pad_edge=False,
                )
                cells = [[text(cell) for cell in row] for row in rows]
                widths = [
                    max(len(column), *(row[index].cell_len for row in cells)) for index, column in enumerate(columns)
                ]
                whole = _whole_columns(rows, widths, console.width)
                for index, column in enumerate(columns):
                    table.add_column(column, overflow="fold", no_wrap=index in whole)
                for row in cells:
                    table.add_row(*row)
                console.print(table)
            case Diff(words, title):
                if title:
                    console.print(Text(shown(title), style="bold"))
                for each in shown_lines(words).splitlines():
                    console.print(Text(each, style=_diff_style(each)), soft_wrap=True)


def _whole_columns(rows: Sequence[Sequence[Piece]], widths: Sequence[int], room: int) -> set[int]:
    """Columns that are not broken: names and numbers, while there is room; sentences and lists take what is left.

    What cannot be broken is cut off without a word. So on a narrow terminal texts are broken, from the right, then words of
    state, ids last.
    """
    whole = {index for index in range(len(widths)) if all(_is_whole(row[index]) for row in rows)}

    def rank(index: int) -> tuple[int, int]:
        kinds = {type(row[index]) for row in rows}
        return 2 if Id in kinds else 1 if Cell in kinds else 0, -index

    room -= 3 * len(widths) - 1  # edges and gaps
    for index in sorted(whole, key=rank):
        if sum(width if i in whole else min(width, _NARROW) for i, width in enumerate(widths)) <= room:
            break
        whole.discard(index)
    return whole


def _is_whole(piece: Piece) -> bool:
    return isinstance(piece, Id | Cell) or (isinstance(piece, str) and len(piece) <= _WHOLE)


def _diff_style(each: str) -> str:
    if each.startswith(("+++", "---")):
        return "bold"
    return {"+": "green", "-": "red", "@": "cyan"}.get(each[:1], "")


def _jsonable(value: Any) -> Any:
    match value:
        case BaseModel():
            return value.model_dump(mode="json")
        case dict():
            entries = cast("dict[object, Any]", value)
            return {str(key): _jsonable(item) for key, item in entries.items()}
        case list() | tuple():
            return [_jsonable(item) for item in cast("list[Any]", value)]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)
