"""The family keeps to its interface: names, arguments, hints, texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.tools.files_tools.conftest import Bench

from takeback.checkpoints.store import FileObjectStore
from takeback.journal.memory import MemoryJournal
from takeback.tools.contract import ReadTool
from takeback.tools.files import FilesFamily
from takeback.tools.outbox.settings import OutboxSettings
from takeback.tools.outbox.system import OutboxSystem
from takeback.tools.registry import Limits, NoSettings, Registry, Services
from takeback.tools.system import Refused

INTERFACE = {
    "read_file": ["path", "offset", "limit"],
    "list_directory": ["path", "recursive", "limit", "cursor"],
    "search_files": ["pattern", "path", "content", "limit", "cursor"],
    "get_file_info": ["path"],
    "write_file": ["path", "content", "encoding", "expected_digest"],
    "edit_file": ["path", "edits", "expected_digest"],
    "move_file": ["source", "destination", "overwrite", "expected_digest"],
    "copy_file": ["source", "destination", "overwrite", "expected_digest"],
    "delete_file": ["path", "recursive", "expected_digest"],
    "create_directory": ["path"],
}


def test_names_and_arguments_are_the_interface_in_order(bench: Bench) -> None:
    assert {tool.name: list(tool.arguments.model_fields) for tool in bench.family.tools} == INTERFACE
    assert [tool.name for tool in bench.family.tools] == list(INTERFACE)


def test_every_text_a_model_reads_is_there_and_short(bench: Bench) -> None:
    for tool in bench.family.tools:
        assert 0 < len(tool.description) <= 300
        assert tool.description.count(". ") <= 1
        assert tool.title
        for name, field in tool.arguments.model_fields.items():
            assert field.description, f"{tool.name} does not explain {name}"


def test_hints_say_what_is_true(bench: Bench) -> None:
    hints = {tool.name: (tool.destructive, tool.idempotent, tool.open_world) for tool in bench.family.tools}
    assert hints == {
        **{tool.name: (False, True, False) for tool in bench.family.tools if isinstance(tool, ReadTool)},
        "write_file": (True, True, False),
        "edit_file": (True, False, False),
        "move_file": (True, False, False),
        "copy_file": (True, False, False),
        "delete_file": (True, False, False),
        "create_directory": (False, False, False),
    }


def test_the_registry_takes_the_family(bench: Bench) -> None:
    registry = Registry([bench.family])
    assert list(registry.tools) == list(INTERFACE)
    assert list(registry.systems) == ["files"]
    assert all(tool.family == "files" for tool in registry.tools.values())


async def test_roots_that_lie_in_the_data_directory_or_contain_it_are_refused(tmp_path: Path) -> None:
    journal = MemoryJournal()
    objects = await FileObjectStore.open(
        tmp_path / "data" / "objects", journal, object_bytes=1, store_bytes=1, ballast_bytes=0
    )
    (tmp_path / "data" / "inside").mkdir(parents=True)
    services = Services(
        data=tmp_path / "data",
        objects=objects,
        roots=(tmp_path,),
        outbox=OutboxSystem(tmp_path / "data", objects, OutboxSettings()),
        settings=NoSettings(),
        limits=Limits(object_bytes=1, trash_bytes=1, read_bytes=1),
        portable_files=False,
    )
    for roots in ((tmp_path,), (tmp_path / "data",), (tmp_path / "data" / "inside",)):
        with pytest.raises(Refused):
            await FilesFamily.open(replace(services, roots=roots))


async def test_paths_answered_from_several_roots_lead_back_to_the_same_file(tmp_path: Path) -> None:
    journal = MemoryJournal()
    objects = await FileObjectStore.open(
        tmp_path / "data" / "objects", journal, object_bytes=1000, store_bytes=10_000, ballast_bytes=0
    )
    for path in ("first/notes", "first/first/notes", "first/second/notes", "second/notes", "second/only-here"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
    family = await FilesFamily.open(
        Services(
            data=tmp_path / "data",
            objects=objects,
            roots=(tmp_path / "first", tmp_path / "second"),
            outbox=OutboxSystem(tmp_path / "data", objects, OutboxSettings()),
            settings=NoSettings(),
            limits=Limits(object_bytes=1000, trash_bytes=1000, read_bytes=1000),
            portable_files=False,
        )
    )
    bench = Bench(tmp_path / "first", family, journal, objects)
    for root in ("first", "second"):
        found = await bench.read("search_files", pattern="**", path=str(tmp_path / root))
        files = [match.path for match in found.matches if match.kind == "file"]
        contents = {(await bench.read("read_file", path=path)).content for path in files}
        assert contents == {str(path.relative_to(tmp_path)) for path in (tmp_path / root).rglob("*") if path.is_file()}
    await family.close()
