"""The in-memory system and its tools pass the kit: its first client."""

import pytest

from takeback.tools.conformance import KitObjects, SystemConformance, ToolConformance, World
from takeback.tools.memory import Announce, DeleteValue, GetValue, MemorySystem, PostNote, SetValue

LONG = "a line that is kept elsewhere\n" * 100
LONGER = "x" * 50_000


class MemoryTool(ToolConformance):
    @pytest.fixture
    def memory(self, objects):
        memory = MemorySystem(objects=objects)
        memory.edit("list", '{"milk": 1, "bread": 2}')
        memory.edit("long", LONG)
        memory.edit("longer", LONGER)
        memory.edit("other", "untouched")
        yield memory
        memory.close()

    @pytest.fixture
    def tool(self, memory):
        return self.tool_class(memory)

    @pytest.fixture
    def world(self, memory):
        return World(lambda: (memory.texts(), memory.notes(), memory.notes("announcement")))


class TestGetValue(MemoryTool):
    tool_class = GetValue
    examples = [{"key": "list"}, {"key": "nothing"}]


class TestSetValue(MemoryTool):
    tool_class = SetValue
    examples = [
        {"key": "list", "value": '{"milk": 3, "bread": 2}'},
        {"key": "new", "value": "hello"},
        {"key": "long", "value": LONG + "more"},
        {"key": "longer", "value": LONGER + "more"},
        {"key": "list", "value": LONGER},
    ]


class TestDeleteValue(MemoryTool):
    tool_class = DeleteValue
    examples = [{"key": "list"}, {"key": "long"}, {"key": "longer"}]
    refused = [{"key": "nothing"}]


class TestPostNote(MemoryTool):
    tool_class = PostNote
    examples = [{"text": "hello"}]


class TestAnnounce(MemoryTool):
    tool_class = Announce
    examples = [{"text": "hello"}]


class TestMemorySystem(SystemConformance):
    contents = [("list", b'{"milk": 3}'), ("new/one", b"hello"), ("long", LONG.encode() + b"more"), ("a/b/c", b"{}")]

    @pytest.fixture(params=["in memory", "in a file", "with an object store"])
    def system(self, request, tmp_path):
        memory = MemorySystem(
            file=tmp_path / "memory.db" if request.param == "in a file" else None,
            objects=KitObjects() if request.param == "with an object store" else None,
        )
        memory.edit("list", '{"milk": 1, "bread": 2}')
        memory.edit("long", LONG)
        yield memory
        memory.close()

    @pytest.fixture
    def world(self, system):
        return World(system.texts)
