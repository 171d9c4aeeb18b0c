"""What the acting tools do, what they answer, what they refuse; and that all of it can be taken back exactly."""

from __future__ import annotations

import base64
import os
from typing import Any

import pytest
from pydantic import ValidationError
from tests.tools.files_tools.conftest import READ_BYTES, Bench

from takeback.tools.contract import DriftedBeforeCommit, Target

BYTES = base64.b64encode(bytes(range(256))).decode()

ROUND_TRIPS: dict[str, tuple[str, dict[str, Any]]] = {
    "write over": ("write_file", {"path": "notes.txt", "content": "new\n"}),
    "write new": ("write_file", {"path": "fresh.txt", "content": "new\n"}),
    "write into new folders": ("write_file", {"path": "a/b/c.txt", "content": "deep"}),
    "write bytes": ("write_file", {"path": "raw", "content": BYTES, "encoding": "base64"}),
    "write nothing": ("write_file", {"path": "notes.txt", "content": ""}),
    "write a linked file": ("write_file", {"path": "hard.txt", "content": "through both names"}),
    "edit": ("edit_file", {"path": "notes.txt", "edits": [{"old_text": "two", "new_text": "2"}]}),
    "move": ("move_file", {"source": "notes.txt", "destination": "sub/moved.txt"}),
    "move into a new folder": ("move_file", {"source": "notes.txt", "destination": "new/deep/moved.txt"}),
    "move over": ("move_file", {"source": "notes.txt", "destination": "other.txt", "overwrite": True}),
    "move a folder": ("move_file", {"source": "sub", "destination": "elsewhere"}),
    "move a link": ("move_file", {"source": "link", "destination": "link2"}),
    "copy": ("copy_file", {"source": "notes.txt", "destination": "copy.txt"}),
    "copy over": ("copy_file", {"source": "notes.txt", "destination": "other.txt", "overwrite": True}),
    "copy a folder": ("copy_file", {"source": "sub", "destination": "sub2"}),
    "delete": ("delete_file", {"path": "notes.txt"}),
    "delete a link": ("delete_file", {"path": "link"}),
    "delete a folder": ("delete_file", {"path": "sub", "recursive": True}),
    "delete an empty folder": ("delete_file", {"path": "empty"}),
    "make a folder": ("create_directory", {"path": "made"}),
    "make folders": ("create_directory", {"path": "made/and/below"}),
}  # fmt: skip


@pytest.fixture
def filled(bench: Bench) -> Bench:
    bench.put("notes.txt", "one\ntwo\n")
    bench.put("other.txt", "other\n")
    bench.put("sub/inner.txt", "inner\n").chmod(0o640)
    bench.put("sub/more/deep.bin", b"\0\1")
    bench.put("hard.txt", "one file")
    os.link(bench.root / "hard.txt", bench.root / "second-name.txt")
    os.symlink("notes.txt", bench.root / "link")
    (bench.root / "empty").mkdir()
    return bench


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_every_act_is_taken_back_exactly(filled: Bench, name: str) -> None:
    tool, arguments = ROUND_TRIPS[name]
    before = filled.signature()
    committed = await filled.act(tool, **arguments)
    after = filled.signature()
    assert after != before
    await filled.take_back(committed)
    assert filled.signature() == before


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_preparing_and_leaving_changes_nothing(filled: Bench, name: str) -> None:
    tool, arguments = ROUND_TRIPS[name]
    before = filled.signature()
    async with await filled.prepare(tool, **arguments) as prepared:
        previews = await prepared.preview()
        assert all(preview.title for preview in previews)
        assert prepared.how.endswith(".")
        assert prepared.reversibility == "reversible"
    assert filled.signature() == before


@pytest.mark.parametrize("name", ROUND_TRIPS)
async def test_the_locks_asked_for_cover_what_is_changed(filled: Bench, name: str) -> None:
    tool_name, arguments = ROUND_TRIPS[name]
    tool = filled.tool(tool_name)
    targets: list[Target] = list(await tool.targets(tool.arguments.model_validate(arguments), filled.context()))
    locked = {target.object for target in targets}
    async with await filled.prepare(tool_name, **arguments) as prepared:
        for effect in prepared.effects:
            made_on_the_way = any(effect.object in filled.system.ancestors(object_id) for object_id in locked)
            assert effect.object in locked or made_on_the_way


# -- answers -----------------------------------------------------------------------------------------------------------


async def test_write_file_answers_what_was_written(filled: Bench) -> None:
    committed = await filled.act("write_file", path="new.txt", content="grün\n")
    seen = await filled.read("read_file", path="new.txt")
    assert committed.result.model_dump() == {"path": "new.txt", "size": 6, "created": True, "digest": seen.digest}
    assert committed.summary == "Created new.txt (6 bytes)."
    assert committed.digest == seen.digest
    again = await filled.act("write_file", path=str(filled.root / "new.txt"), content="x")
    assert again.summary == "Wrote new.txt (1 byte)."
    assert (filled.root / "new.txt").read_bytes() == b"x"


async def test_edit_file_keeps_endings_encoding_mark_and_mode(filled: Bench) -> None:
    file = filled.put("win.txt", "a\r\nb\r\n".encode("utf-16"))
    file.chmod(0o755)
    edits = [{"old_text": "a\nb", "new_text": "A\nx\nB"}, {"old_text": "x", "new_text": "X"}]
    committed = await filled.act("edit_file", path="win.txt", edits=edits)
    assert file.read_bytes() == "A\r\nX\r\nB\r\n".encode("utf-16")
    assert file.stat().st_mode & 0o777 == 0o755
    assert committed.summary == "Changed win.txt in 2 edits."
    assert committed.result.model_dump(exclude={"digest"}) == {"path": "win.txt", "size": 20, "created": False}


async def test_a_file_with_two_names_stays_one_file(filled: Bench) -> None:
    await filled.act("edit_file", path="hard.txt", edits=[{"old_text": "one", "new_text": "1"}])
    assert (filled.root / "second-name.txt").read_text() == "1 file"


async def test_move_and_copy_answer_both_ends(filled: Bench) -> None:
    moved = await filled.act("move_file", source="notes.txt", destination="a.txt")
    assert moved.summary == "Moved notes.txt to a.txt."
    assert moved.result.model_dump() == {"source": "notes.txt", "destination": "a.txt", "overwritten": False}
    copied = await filled.act("copy_file", source="a.txt", destination="other.txt", overwrite=True)
    assert copied.summary == "Copied a.txt to other.txt, over what stood there."
    assert copied.result.model_dump() == {"source": "a.txt", "destination": "other.txt", "overwritten": True}
    assert (filled.root / "other.txt").read_text() == "one\ntwo\n"


async def test_delete_and_create_answer_what_they_did(filled: Bench) -> None:
    assert (await filled.act("delete_file", path="other.txt")).summary == "Deleted other.txt."
    folder = await filled.act("delete_file", path="sub", recursive=True)
    assert folder.summary == "Deleted the folder sub."
    assert folder.result.model_dump() == {"path": "sub", "kind": "directory"}
    assert (await filled.act("delete_file", path="link")).summary == "Deleted the link link."
    assert (filled.root / "notes.txt").exists()
    made = await filled.act("create_directory", path="x/y")
    assert made.summary == "Made the folder x/y."
    assert made.result.model_dump() == {"path": "x/y"}


# -- somebody else is at work ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["write over", "edit", "delete", "move", "copy over"])
async def test_a_save_between_preparation_and_commit_is_kept(filled: Bench, name: str) -> None:
    tool, arguments = ROUND_TRIPS[name]
    victim = filled.root / ("other.txt" if name == "copy over" else "notes.txt")
    async with await filled.prepare(tool, **arguments) as prepared:
        victim.write_text("somebody else's\n")
        with pytest.raises(DriftedBeforeCommit) as raised:
            await prepared.commit()
    assert raised.value.code == "drifted"
    assert victim.read_text() == "somebody else's\n"


async def test_a_copy_of_other_content_than_expected_is_refused(filled: Bench) -> None:
    digest = (await filled.read("read_file", path="notes.txt")).digest
    filled.put("notes.txt", "somebody else's\n")
    error = await filled.refused("copy_file", source="notes.txt", destination="c", expected_digest=digest)
    assert (error.code, str(error)) == ("stale_read", "notes.txt is not the content that expected_digest names.")
    now = (await filled.read("read_file", path="notes.txt")).digest
    await filled.act("copy_file", source="notes.txt", destination="c", expected_digest=now)


async def test_expected_digests_go_to_the_engine_with_the_object(filled: Bench) -> None:
    for name, arguments in (
        ("write_file", {"path": "notes.txt", "content": ""}),
        ("edit_file", {"path": "notes.txt", "edits": []}),
        ("move_file", {"source": "notes.txt", "destination": "n"}),
        ("delete_file", {"path": "notes.txt"}),
    ):
        tool = filled.tool(name)
        parsed = tool.arguments.model_validate({**arguments, "expected_digest": "blake3:00"})
        first = (await tool.targets(parsed, filled.context()))[0]
        assert first == Target("files", str(filled.root / "notes.txt"), "blake3:00")


# -- refusals ----------------------------------------------------------------------------------------------------------

BAD_PATHS = {
    "": "bad_name",
    "a\nb": "bad_name",
    "a\0b": "bad_name",
    "a\x7fb": "bad_name",
    "a\x85b": "bad_name",
    "a\\x0ab": "bad_name",
    "a\\x00b": "bad_name",
    "\ud800": "bad_name",
    "x" * 5000: "bad_name",
    "../outside.txt": "outside_roots",
    "/etc/passwd": "outside_roots",
    "sub/../../outside.txt": "outside_roots",
    ".takeback/x": "reserved",
    "x" * 300: "name_too_long",
    ".": "root",
    "notes.txt/below": "not_a_directory",
    "link/below": "symlink_in_path",
}


@pytest.mark.parametrize("path", BAD_PATHS, ids=lambda path: ascii(path)[:30])
@pytest.mark.parametrize("tool", ["write_file", "create_directory", "move_file", "copy_file"])
async def test_paths_that_lead_nowhere_are_refused(filled: Bench, tool: str, path: str) -> None:
    os.unlink(filled.root / "link")
    os.symlink("sub", filled.root / "link")
    arguments: dict[str, Any] = {"path": path}
    if tool == "write_file":
        arguments["content"] = "x"
    if tool in {"move_file", "copy_file"}:
        arguments = {"source": "notes.txt", "destination": path}
    try:
        error = await filled.refused(tool, **arguments)
    except ValidationError:
        assert path == "\ud800"  # refused with the arguments already
        return
    assert error.code == BAD_PATHS[path], str(error)


async def test_no_host_path_outside_the_workspace_is_told(filled: Bench) -> None:
    for path in ("../../secret", "/etc/shadow"):
        error = await filled.refused("write_file", path=path, content="x")
        assert str(filled.root.parent) not in str(error).replace(str(filled.root), "")


REFUSALS: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "base64 cut off": (
        "write_file", {"path": "f", "content": "a", "encoding": "base64"}, "invalid", "content is not valid base64."),
    "base64 with line breaks": (
        "write_file", {"path": "f", "content": "YWJj\nYWJj", "encoding": "base64"}, "invalid", "content is not valid base64."),
    "base64 with too much padding": (
        "write_file", {"path": "f", "content": "YWJj====", "encoding": "base64"}, "invalid", "content is not valid base64."),
    "base64 of the other alphabet": (
        "write_file", {"path": "f", "content": "__--", "encoding": "base64"}, "invalid", "content is not valid base64."),
    "base64 that is no ascii": (
        "write_file", {"path": "f", "content": "ü", "encoding": "base64"}, "invalid", "content is not valid base64."),
    "a file named like a folder": (
        "write_file", {"path": "new/", "content": "x"}, "bad_name", "new/ ends like a folder."),
    "writing a folder": ("write_file", {"path": "sub", "content": "x"}, "is_directory", "sub is a folder."),
    "writing a link": (
        "write_file", {"path": "link", "content": "x"}, "is_symlink",
        "link is a symlink, and writing would replace the link."),
    "editing nothing": (
        "edit_file", {"path": "nothing", "edits": [{"old_text": "a", "new_text": "b"}]}, "not_found",
        "nothing does not exist."),
    "editing without edits": ("edit_file", {"path": "notes.txt", "edits": []}, "no_change", "No edit was given."),
    "editing what is not there": (
        "edit_file", {"path": "notes.txt", "edits": [{"old_text": "three", "new_text": "b"}]}, "no_match",
        "old_text was not found."),
    "editing what is there twice": (
        "edit_file", {"path": "notes.txt", "edits": [{"old_text": "o", "new_text": "b"}]}, "ambiguous",
        "old_text occurs 2 times (from lines 1, 2 on)."),
    "editing bytes": (
        "edit_file", {"path": "binary", "edits": [{"old_text": "a", "new_text": "b"}]}, "not_text",
        "The file is not text in UTF-8 or UTF-16: byte 0 is not UTF-8."),
    "moving nothing": ("move_file", {"source": "nothing", "destination": "n"}, "not_found", "nothing does not exist."),
    "moving onto something": (
        "move_file", {"source": "notes.txt", "destination": "other.txt"}, "exists", "other.txt exists already."),
    "moving onto a folder": (
        "move_file", {"source": "notes.txt", "destination": "sub", "overwrite": True}, "is_directory", "sub is a folder."),
    "moving into itself": (
        "move_file", {"source": "sub", "destination": "sub/below"}, "into_itself", "sub cannot be moved into itself."),
    "copying nothing": ("copy_file", {"source": "nothing", "destination": "n"}, "not_found", "nothing does not exist."),
    "copying onto something": (
        "copy_file", {"source": "notes.txt", "destination": "other.txt"}, "exists", "other.txt exists already."),
    "deleting nothing": ("delete_file", {"path": "nothing"}, "not_found", "nothing does not exist."),
    "deleting a full folder": ("delete_file", {"path": "sub"}, "not_empty", "The folder sub is not empty."),
    "deleting the workspace": ("delete_file", {"path": ".", "recursive": True}, "root", "work is the workspace itself."),
    "making what is there": ("create_directory", {"path": "sub"}, "exists", "The folder sub exists already."),
    "making a folder of a file": (
        "create_directory", {"path": "notes.txt"}, "exists", "A file named notes.txt exists already."),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_call_that_cannot_be_done_is_refused_in_a_sentence(filled: Bench, name: str) -> None:
    tool, arguments, code, sentence = REFUSALS[name]
    filled.put("binary", b"\xff\x00a")
    error = await filled.refused(tool, **arguments)
    assert (error.code, str(error)) == (code, sentence)


async def test_a_file_larger_than_the_limit_is_not_edited(filled: Bench) -> None:
    filled.put("big", b"a" * (READ_BYTES + 1))
    error = await filled.refused("edit_file", path="big", edits=[{"old_text": "a", "new_text": "b"}])
    assert error.code == "too_large"


@pytest.mark.parametrize("tool", ["write_file", "edit_file", "delete_file", "move_file", "copy_file"])
async def test_devices_and_pipes_are_refused_without_blocking(filled: Bench, tool: str) -> None:
    os.mkfifo(filled.root / "pipe")
    arguments: dict[str, Any] = {"path": "pipe"}
    match tool:
        case "write_file":
            arguments["content"] = "x"
        case "edit_file":
            arguments["edits"] = [{"old_text": "a", "new_text": "b"}]
        case "move_file" | "copy_file":
            arguments = {"source": "pipe", "destination": "p"}
    assert (await filled.refused(tool, **arguments)).code == "not_a_file"


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("write_file", {"path": "a", "content": "x", "mode": "0777"}),
        ("write_file", {"path": "a", "content": 7}),
        ("write_file", {"path": "a", "content": "x", "encoding": "latin-1"}),
        ("edit_file", {"path": "a", "edits": [{"old": "a", "new": "b"}]}),
        ("delete_file", {"path": "a", "recursive": "yes"}),
    ],
)
def test_arguments_are_strict(bench: Bench, tool: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        bench.tool(tool).arguments.model_validate(arguments)
