"""What the reading tools answer; and that they change nothing."""

from __future__ import annotations

import base64
import os
from datetime import datetime
from typing import Any

import pytest
from tests.tools.files_tools.conftest import READ_BYTES, Bench


async def test_read_file_answers_content_encoding_and_digest(bench: Bench) -> None:
    bench.put("notes.txt", "one\r\ntwo\nthrée")
    context = bench.context()
    answer = await bench.read("read_file", context, path="notes.txt")
    assert answer.model_dump(exclude={"digest"}) == {
        "path": "notes.txt", "content": "one\r\ntwo\nthrée", "encoding": "utf-8", "size": 15,
        "offset": 0, "lines": 3, "total_lines": 3, "truncated": False, "next_offset": None,
    }  # fmt: skip
    assert context.seen == {("files", str(bench.root / "notes.txt")): answer.digest}
    assert answer.digest.startswith("blake3:")


async def test_the_digest_is_of_the_content_alone(bench: Bench) -> None:
    bench.put("a", "same").chmod(0o600)
    bench.put("b", "same").chmod(0o644)
    assert (await bench.read("read_file", path="a")).digest == (await bench.read("read_file", path="b")).digest


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        ("grün".encode("utf-8-sig"), "utf-8-sig"),
        (b"\xff\xfe" + "grün".encode("utf-16-le"), "utf-16-le"),
        (b"\xfe\xff" + "grün".encode("utf-16-be"), "utf-16-be"),
        ("grün".encode(), "utf-8"),
    ],
)
async def test_text_is_decoded_without_its_mark(bench: Bench, content: bytes, encoding: str) -> None:
    bench.put("text", content)
    answer = await bench.read("read_file", path="text")
    assert (answer.content, answer.encoding) == ("grün", encoding)


@pytest.mark.parametrize("content", [b"\0\1\2", b"caf\xe9", b"text with a \0 in it", b"\xff\xfea"])
async def test_binary_files_come_as_base64(bench: Bench, content: bytes) -> None:
    bench.put("binary", content)
    answer = await bench.read("read_file", path="binary")
    assert base64.b64decode(answer.content) == content
    assert (answer.encoding, answer.lines, answer.total_lines) == ("base64", None, None)
    error = await bench.refused("read_file", path="binary", offset=1)
    assert error.code == "not_text"
    assert str(error).startswith("binary is not text in UTF-8 or UTF-16, so it has no lines: ")


async def test_an_empty_file_has_no_lines(bench: Bench) -> None:
    bench.put("empty")
    answer = await bench.read("read_file", path="empty")
    assert (answer.content, answer.lines, answer.total_lines, answer.truncated) == ("", 0, 0, False)


@pytest.mark.parametrize(
    ("asked", "content", "truncated", "following"),
    [
        ({"offset": 0}, "a\nb\r\nc\rd", False, None),
        ({"limit": 2}, "a\nb\r\n", True, 2),
        ({"offset": 1, "limit": 2}, "b\r\nc\r", True, 3),
        ({"offset": 3, "limit": 9}, "d", False, None),
        ({"offset": 9}, "", False, None),
    ],
)
async def test_offset_and_limit_count_lines(
    bench: Bench, asked: dict[str, int], content: str, truncated: bool, following: int | None
) -> None:
    bench.put("lines", "a\nb\r\nc\rd")
    answer = await bench.read("read_file", path="lines", **asked)
    assert (answer.content, answer.truncated, answer.next_offset) == (content, truncated, following)
    assert answer.total_lines == 4


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
async def test_a_file_larger_than_the_limit_is_read_in_parts(bench: Bench, encoding: str, ending: str) -> None:
    every = [f"{number} größe 🎉{ending}" for number in range(30_000)]
    file = bench.put("big", "".join(every).encode(encoding))
    assert file.stat().st_size > READ_BYTES
    error = await bench.refused("read_file", path="big")
    assert error.code == "too_large"
    assert str(error) == f"big has {file.stat().st_size:,} bytes, more than is read at once (262,144)."
    assert error.advice == "Read it in parts with offset and limit, or use search_files."
    middle = await bench.read("read_file", path="big", offset=17_000, limit=3)
    assert middle.content == "".join(every[17_000:17_003])
    assert (middle.lines, middle.total_lines, middle.truncated, middle.next_offset) == (3, None, True, 17_003)
    end = await bench.read("read_file", path="big", offset=29_999, limit=5)
    assert (end.content, end.total_lines, end.truncated) == (every[-1], 30_000, False)
    assert end.digest == middle.digest == (await bench.read("get_file_info", path="big")).digest
    beyond = await bench.read("read_file", path="big", offset=40_000, limit=5)
    assert (beyond.content, beyond.lines, beyond.total_lines) == ("", 0, 30_000)


async def test_reading_on_from_each_answer_gives_the_whole_file(bench: Bench) -> None:
    whole = "".join(f"line {number}\r\n" for number in range(60_000))
    bench.put("big", whole)
    parts: list[str] = []
    offset: int | None = 0
    while offset is not None:
        answer = await bench.read("read_file", path="big", offset=offset)
        parts.append(answer.content)
        offset = answer.next_offset
    assert len(parts) > 1
    assert "".join(parts) == whole


async def test_a_line_longer_than_the_limit_is_refused(bench: Bench) -> None:
    bench.put("long", "short\n" + "x" * 3_000_000 + "\r\nlast")
    assert (await bench.read("read_file", path="long", offset=0, limit=1)).content == "short\n"
    error = await bench.refused("read_file", path="long", offset=1, limit=1)
    assert error.code == "too_large"
    assert str(error) == "Line 2 is longer than what may be read at once (262,144 characters)."
    assert (await bench.read("read_file", path="long", offset=2, limit=1)).content == "last"


@pytest.mark.parametrize("length", range(2**20 - 3, 2**20 + 3))
async def test_line_breaks_at_the_border_of_a_block_count_once(bench: Bench, length: int) -> None:
    for ending in ("\n", "\r\n", "\r"):
        bench.put("long", "x" * length + ending + "second" + ending + "third")
        assert (await bench.read("read_file", path="long", offset=2, limit=1)).content == "third"


async def test_large_binary_files_are_refused_in_parts_too(bench: Bench) -> None:
    bench.put("big", b"\0" * (READ_BYTES + 1))
    assert (await bench.refused("read_file", path="big", offset=0, limit=1)).code == "not_text"
    bench.put("big", b"a\n" * READ_BYTES + b"\xff")
    assert (await bench.refused("read_file", path="big", offset=READ_BYTES - 1, limit=9)).code == "not_text"


async def test_what_cannot_be_read_is_refused_in_a_sentence(bench: Bench) -> None:
    bench.put("sub/file")
    os.symlink("sub/file", bench.root / "link")
    os.symlink("sub", bench.root / "folder-link")
    os.mkfifo(bench.root / "pipe")
    for path, code, sentence in (
        ("nothing", "not_found", "nothing does not exist."),
        ("sub", "is_directory", "sub is a folder."),
        ("link", "is_symlink", "link is a symlink to sub/file, and symlinks are not followed."),
        ("pipe", "not_a_file", "pipe is a FIFO, a device or a socket."),
        ("", "bad_name", "path is empty."),
    ):
        error = await bench.refused("read_file", path=path)
        assert (error.code, str(error)) == (code, sentence)
    assert (await bench.refused("read_file", path="folder-link/file")).code == "symlink_in_path"
    assert (await bench.refused("read_file", path="../x")).code == "outside_roots"


# -- folders -----------------------------------------------------------------------------------------------------------


async def test_list_directory_tells_kinds_sizes_and_times(bench: Bench) -> None:
    file = bench.put("notes.txt", "12345")
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    bench.put("sub/deep/inner", "")
    os.symlink("notes.txt", bench.root / "link")
    listing = await bench.read("list_directory", path="")
    assert [(entry.name, entry.kind) for entry in listing.entries] == [
        ("link", "symlink"), ("notes.txt", "file"), ("sub", "directory"),
    ]  # fmt: skip
    notes = listing.entries[1]
    assert notes.model_dump() == {
        "name": "notes.txt", "path": "notes.txt", "kind": "file", "size": 5,
        "modified": "2023-11-14T22:13:20Z", "target": None,
    }  # fmt: skip
    assert listing.entries[0].target == "notes.txt"
    assert (listing.total, listing.cursor) == (3, None)
    below = await bench.read("list_directory", path="sub", recursive=True)
    assert [entry.path for entry in below.entries] == ["sub/deep", "sub/deep/inner"]
    assert below.path == "sub"


async def test_paths_that_are_listed_are_paths_that_are_taken(bench: Bench) -> None:
    os.mkdir(os.path.join(os.fsencode(bench.root), b"caf\xe9"))
    bench.put("büro/ä b.txt", "x")
    (bench.root / "büro" / "back\\x41slash").write_text("y")
    with open(os.path.join(os.fsencode(bench.root), b"caf\xe9", b"\xff.txt"), "wb") as file:
        file.write(b"z")
    listing = await bench.read("list_directory", path=".", recursive=True)
    contents = [
        (await bench.read("read_file", path=entry.path)).content for entry in listing.entries if entry.kind == "file"
    ]
    assert sorted(contents) == ["x", "y", "z"]


async def test_a_big_folder_comes_in_pages_that_are_complete_and_in_order(bench: Bench) -> None:
    names = {f"{folder}/{number}" for folder in ("a", "a-b", "b") for number in range(40)}
    for name in names:
        bench.put(name)
    names |= {"a", "a-b", "b"}
    found: list[str] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        page = await bench.read("list_directory", path="", recursive=True, limit=17, cursor=cursor)
        assert len(page.entries) <= 17
        assert page.total == len(names)
        found += [entry.path for entry in page.entries]
        cursor = page.cursor
        pages += 1
    assert found == sorted(names, key=lambda path: path.split("/"))
    assert pages == 8


async def test_a_page_goes_on_behind_its_cursor_whatever_happened_meanwhile(bench: Bench) -> None:
    for name in "abcd":
        bench.put(name)
    page = await bench.read("list_directory", path="", limit=2)
    (bench.root / "b").unlink()
    bench.put("aa")
    rest = await bench.read("list_directory", path="", limit=2, cursor=page.cursor)
    assert [entry.name for entry in rest.entries] == ["c", "d"]


@pytest.mark.parametrize("cursor", ["", "nonsense", "bnVsbA", "WzFd", "W10"])
async def test_a_foreign_cursor_is_refused(bench: Bench, cursor: str) -> None:
    error = await bench.refused("list_directory", path="", cursor=cursor)
    assert (error.code, str(error)) == ("bad_cursor", "The cursor is not one that this tool answered.")


async def test_the_trash_is_invisible(bench: Bench) -> None:
    bench.put("a")
    (bench.root / ".takeback").mkdir(exist_ok=True)
    (bench.root / ".takeback" / "secret").write_text("x")
    listing = await bench.read("list_directory", path="", recursive=True)
    assert [entry.name for entry in listing.entries] == ["a"]
    assert (await bench.refused("list_directory", path=".takeback")).code == "reserved"
    assert (await bench.refused("read_file", path=".takeback/secret")).code == "reserved"
    assert (await bench.read("search_files", pattern="**")).matches[0].path == "a"


async def test_what_is_no_folder_is_not_listed(bench: Bench) -> None:
    bench.put("file")
    os.mkdir(bench.root / "real")
    os.symlink("real", bench.root / "link")
    for path, code, sentence in (
        ("nothing", "not_found", "nothing does not exist."),
        ("file", "not_a_directory", "file is not a folder."),
        ("link", "not_a_directory", "link is not a folder."),
    ):
        error = await bench.refused("list_directory", path=path)
        assert (error.code, str(error)) == (code, sentence)


# -- facts -------------------------------------------------------------------------------------------------------------


async def test_get_file_info_tells_all_but_the_content(bench: Bench) -> None:
    file = bench.put("notes.txt", "12345")
    file.chmod(0o640)
    os.link(file, bench.root / "second")
    context = bench.context()
    facts: Any = await bench.read("get_file_info", context, path="notes.txt")
    there = file.stat()
    assert facts.model_dump(exclude={"digest", "modified"}) == {
        "name": "notes.txt", "path": "notes.txt", "kind": "file", "size": 5, "target": None,
        "mode": "0640", "uid": there.st_uid, "gid": there.st_gid, "links": 2,
    }  # fmt: skip
    assert abs(datetime.fromisoformat(facts.modified).timestamp() - there.st_mtime) <= 1
    assert facts.digest == (await bench.read("read_file", path="notes.txt")).digest
    assert list(context.seen.values()) == [facts.digest]


async def test_facts_of_folders_links_and_devices(bench: Bench) -> None:
    bench.put("sub/file", "x")
    os.symlink("sub", bench.root / "link")
    os.mkfifo(bench.root / "pipe")
    context = bench.context()
    folder = await bench.read("get_file_info", context, path="sub")
    assert (folder.kind, folder.digest is None) == ("directory", False)
    link = await bench.read("get_file_info", context, path="link")
    assert (link.kind, link.target) == ("symlink", "sub")
    pipe = await bench.read("get_file_info", context, path="pipe")
    assert (pipe.kind, pipe.digest) == ("other", None)
    assert context.seen == {}
    assert (await bench.refused("get_file_info", path="nothing")).code == "not_found"
    bench.put("sub/second", "y")
    assert (await bench.read("get_file_info", path="sub")).digest != folder.digest
