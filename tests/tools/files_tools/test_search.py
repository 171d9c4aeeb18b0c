"""Names and lines are found, in order and in pages; and no pattern can hold anybody up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from tests.tools.files_tools.conftest import READ_BYTES, Bench

from takeback.tools.files import search_tool
from takeback.tools.files.matcher import WIDTH
from takeback.tools.files.search import BadPattern, Glob, Searcher, TooSlow


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("*.py", "a.py", True),
        ("*.py", "deep/down/a.py", True),
        ("*.py", "a.pyc", False),
        ("src/*.py", "src/a.py", True),
        ("src/*.py", "src/below/a.py", False),
        ("src/*.py", "other/src/a.py", False),
        ("**/src/*.py", "other/src/a.py", True),
        ("**/a.py", "a.py", True),
        ("src/**", "src/x/y/z", True),
        ("src/**/test_*.py", "src/test_a.py", True),
        ("src/**/test_*.py", "src/x/y/test_a.py", True),
        ("./src/a.py", "src/a.py", True),
        ("**", "anything/at/all", True),
        ("*", ".hidden", True),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("[ab].txt", "b.txt", True),
        ("[!ab].txt", "b.txt", False),
        ("*.{ts,tsx}", "x/a.tsx", True),
        ("{a,b}/{c,d}.txt", "b/c.txt", True),
        ("report", "2024-Report.md", True),
        ("docs/re", "docs/readme.md", True),
        ("report", "report/other.md", False),
        ("*.PY", "a.py", False),
    ],
)
def test_globs_mean_what_a_shell_means(pattern: str, path: str, meant: bool) -> None:
    assert Glob(pattern).matches(path) is meant


@pytest.mark.parametrize("pattern", ["", " ", "/", "{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}"])
def test_globs_that_mean_nothing_are_refused(pattern: str) -> None:
    with pytest.raises(BadPattern):
        Glob(pattern)


def test_a_hostile_glob_takes_no_time() -> None:
    assert not Glob("*a" * 100 + "b").matches("a" * 255)
    assert not Glob("**/" * 100 + "b").matches("a/" * 1000 + "a")


def found(wanted: str, text: str, limit: int = 100) -> list[tuple[int, str]]:
    with Searcher(wanted, seconds=30) as searcher:
        return [(line.number, line.text) for line in searcher.lines(text, limit)]


def test_plain_text_is_found_with_its_line() -> None:
    assert found("b", "a\nb1\r\nc\rb2") == [(2, "b1"), (4, "b2")]
    assert found("b", "bbb\nbb") == [(1, "bbb"), (2, "bb")]
    assert found("x", "a\n") == []
    assert found("a", "a\n" * 50, limit=3) == [(1, "a"), (2, "a"), (3, "a")]


def test_expressions_are_found_line_by_line() -> None:
    assert found(r"^def \w+\(", "x = 1\ndef go():\r\n  def no():\n") == [(2, "def go():")]
    assert found(r"(?i)TODO|fixme", "todo\nFIXME\nnothing") == [(1, "todo"), (2, "FIXME")]
    assert found(r"o$", "foo\r\nbar\r\n") == [(1, "foo")]
    assert found(r"a.c", "a\nc", limit=1) == []


def test_text_that_looks_like_an_expression_is_found_as_it_is_too() -> None:
    assert found("f(x)", "f(x)\nfx") == [(1, "f(x)"), (2, "fx")]
    assert found("a[0]", "a[0] = 1") == [(1, "a[0] = 1")]


def test_text_that_is_no_expression_is_found_as_it_is() -> None:
    with Searcher("call(", seconds=30) as searcher:
        assert searcher.problem
        assert [line.number for line in searcher.lines("x\ncall(1)\n", 10)] == [2]


def test_long_lines_are_cut_around_the_match() -> None:
    [(number, text)] = found("needle", "x" * 10_000 + "needle" + "y" * 10_000)
    assert number == 1
    assert "needle" in text
    assert len(text) == WIDTH + 2
    assert text.startswith("…")
    assert text.endswith("…")


def test_an_expression_that_never_ends_is_killed() -> None:
    with Searcher("(a+)+$", seconds=0.5) as searcher, pytest.raises(TooSlow):
        searcher.lines("a" * 100 + "b", 10)


def test_the_searcher_leaves_no_process_behind() -> None:
    searcher = Searcher("a+", seconds=30)
    searcher.lines("aaa", 1)
    children = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    before = children.read_text().split() if children.exists() else []
    searcher.close()
    searcher.close()
    assert len(children.read_text().split() if children.exists() else []) == max(0, len(before) - 1)


# -- the tool ----------------------------------------------------------------------------------------------------------


LIMIT = "at the limit of one call; go on with cursor."


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.put("readme.md", "# Title\nTODO: more\n")
    bench.put("src/a.py", "import os\r\n# TODO one\r\n# TODO two\r\n")
    bench.put("src/deep/b.py", "nothing\n")
    bench.put("src/wide.txt", "TODO wide\n".encode("utf-16"))
    bench.put("bin/data", b"TODO\0binary")
    bench.put("bin/large", b"TODO\n" * READ_BYTES)
    os.symlink("readme.md", bench.root / "link")
    return bench


async def test_names_are_found_below_a_folder(filled: Bench) -> None:
    answer = await filled.read("search_files", pattern="*.py")
    assert [match.model_dump() for match in answer.matches] == [
        {"path": "src/a.py", "kind": "file", "line": None, "text": None},
        {"path": "src/deep/b.py", "kind": "file", "line": None, "text": None},
    ]
    assert (answer.cursor, answer.note, answer.searched, answer.skipped) == (None, "", 0, [])
    below = await filled.read("search_files", pattern="**", path="src")
    assert [(match.path, match.kind) for match in below.matches] == [
        ("src/a.py", "file"), ("src/deep", "directory"), ("src/deep/b.py", "file"), ("src/wide.txt", "file"),
    ]  # fmt: skip
    relative = await filled.read("search_files", pattern="deep/*.py", path="src")
    assert [match.path for match in relative.matches] == ["src/deep/b.py"]


async def test_lines_are_found_with_numbers_and_what_was_skipped_is_named(filled: Bench) -> None:
    answer = await filled.read("search_files", pattern="**", content="TODO")
    assert [(match.path, match.line, match.text) for match in answer.matches] == [
        ("readme.md", 2, "TODO: more"),
        ("src/a.py", 2, "# TODO one"),
        ("src/a.py", 3, "# TODO two"),
        ("src/wide.txt", 1, "TODO wide"),
    ]
    assert (answer.skipped, answer.skipped_count, answer.searched) == (["bin/data", "bin/large"], 2, 4)
    expression = await filled.read("search_files", pattern="*.py", content=r"TODO (one|two)$")
    assert [(match.path, match.line) for match in expression.matches] == [("src/a.py", 2), ("src/a.py", 3)]
    assert expression.note == ""


async def test_a_single_file_can_be_searched(filled: Bench) -> None:
    answer = await filled.read("search_files", pattern="*", path="src/a.py", content="TODO", limit=1)
    assert [(match.path, match.line) for match in answer.matches] == [("src/a.py", 2)]
    rest = await filled.read("search_files", pattern="*", path="src/a.py", content="TODO", cursor=answer.cursor)
    assert [(match.path, match.line) for match in rest.matches] == [("src/a.py", 3)]
    assert rest.cursor is None


@pytest.mark.parametrize("content", [None, "TODO", "TOD[O]"])
async def test_pages_together_are_the_whole_answer(filled: Bench, content: str | None) -> None:
    whole = await filled.read("search_files", pattern="**", content=content)
    pages: list[Any] = []
    cursor: str | None = None
    while not pages or cursor is not None:
        page = await filled.read("search_files", pattern="**", content=content, limit=1, cursor=cursor)
        assert len(page.matches) <= 1
        pages += page.matches
        cursor = page.cursor
    assert pages == whole.matches


async def test_what_is_no_expression_is_said(filled: Bench) -> None:
    answer = await filled.read("search_files", pattern="**", content="TODO: m(")
    assert answer.note.startswith("content is no regular expression (missing ), unterminated subpattern")
    assert answer.matches == []


async def test_a_search_that_reaches_its_limit_goes_on_by_cursor(
    filled: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_tool, "BYTES", 5)
    matches: list[str] = []
    cursor: str | None = None
    for _ in range(20):
        answer = await filled.read("search_files", pattern="**", content="TODO", cursor=cursor)
        matches += [f"{match.path}:{match.line}" for match in answer.matches]
        cursor = answer.cursor
        if cursor is None:
            break
        assert answer.note == f"Stopped after {answer.searched} file{'' if answer.searched == 1 else 's'}, {LIMIT}"
    assert matches == ["readme.md:2", "src/a.py:2", "src/a.py:3", "src/wide.txt:1"]


async def test_a_catastrophic_expression_is_refused_in_time(filled: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_tool, "SECONDS", 0.5)
    filled.put("src/victim.txt", "a" * 200 + "b")
    error = await filled.refused("search_files", pattern="victim*", content="(a|a)*$")
    assert error.code == "too_slow"
    assert str(error) == "The expression takes more than 0.5 seconds in src/victim.txt alone."
    partly = await filled.read("search_files", pattern="**", path="src", content="(a|a)*$|TODO")
    assert [match.path for match in partly.matches][:2] == ["src/a.py", "src/a.py"]
    assert partly.cursor is not None


async def test_searches_that_make_no_sense_are_refused(filled: Bench) -> None:
    for arguments, code, sentence in (
        ({"pattern": ""}, "bad_pattern", "The pattern is empty."),
        ({"pattern": "*", "content": ""}, "bad_pattern", "content is empty."),
        ({"pattern": "*", "path": "nothing"}, "not_found", "nothing does not exist."),
        ({"pattern": "*", "path": "link"}, "not_a_directory", "link is not a folder."),
        ({"pattern": "*", "path": ".."}, "outside_roots", ".. lies outside the workspace."),
        ({"pattern": "*", "cursor": "x"}, "bad_cursor", "The cursor is not one that this tool answered."),
    ):
        error = await filled.refused("search_files", **arguments)
        assert (error.code, str(error)) == (code, sentence)
