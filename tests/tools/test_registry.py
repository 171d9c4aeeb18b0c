"""Finding families, opening them, and telling authors what is wrong before anything is served."""

import importlib.metadata
import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic import BaseModel, Field, SecretStr

from takeback.tools import memory
from takeback.tools.conformance import kit_services
from takeback.tools.contract import Arguments, CompensableTool, IrreversibleTool, ReadTool, Result, Tool
from takeback.tools.definition import RUN_TOOLS, DefinitionError, check_tool
from takeback.tools.memory import MemoryFamily, MemorySystem, PostNote
from takeback.tools.registry import BUILT_IN, Family, Registry, read_settings

MEMORY = Path(memory.__file__)


class NoArguments(Arguments):
    """Nothing."""


class Look(ReadTool[NoArguments]):
    """Sound."""

    name, title, description = "look_around", "Look around", "Looks around."
    arguments, result = NoArguments, Result

    async def run(self, arguments, context):
        return Result()


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, "utf-8")
    return path


TOOL = """
from takeback.tools.contract import Arguments, ReadTool, Result

class {cls}Arguments(Arguments):
    pass

class {cls}(ReadTool[{cls}Arguments]):
    name, title, description = "{name}", "Title", "Description."
    arguments, result = {cls}Arguments, Result
    async def run(self, arguments, context):
        return Result()
"""

PING = TOOL.format(cls="Ping", name="ping")


async def opened(
    tmp_path: Path, modules: Sequence[Path] = (), off: Sequence[str] = tuple(BUILT_IN), **more: Any
) -> Registry:
    return await Registry.open(lambda _: kit_services(tmp_path), modules=modules, off=off, **more)


# -- finding ---------------------------------------------------------------------------------------------------------------


async def test_tools_and_systems_are_listed_in_a_fixed_order(tmp_path):
    second = written(tmp_path, "zebra.py", TOOL.format(cls="Zebra", name="a_tool"))
    first = written(tmp_path, "apple.py", TOOL.format(cls="Apple", name="z_tool"))
    registry = await opened(tmp_path, [second, MEMORY, first])
    assert list(registry.tools) == [
        "a_tool",
        "get_value",
        "set_value",
        "delete_value",
        "post_note",
        "announce",
        "z_tool",
    ]
    assert list(registry.systems) == ["memory"]
    assert [family.name for family in registry.families] == ["zebra", "memory", "apple"]
    assert [tool.family for tool in registry.tools.values()] == ["zebra", *["memory"] * 5, "apple"]
    await registry.close()


async def test_a_family_that_is_off_is_not_even_imported(tmp_path):
    broken = written(tmp_path, "broken.py", "raise RuntimeError('imported')")
    registry = await opened(tmp_path, [broken], off=[*BUILT_IN, "broken"])
    assert not registry.tools
    with pytest.raises(DefinitionError, match="no such family") as refused:
        await opened(tmp_path, off=["flies"])
    assert "files" in refused.value.advice


def test_the_built_in_families_are_those_of_the_entry_points():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    assert dict(BUILT_IN) == project["entry-points"]["takeback.tools"]


def offered(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, points: str, code: str) -> None:
    """An installed package, as pip would leave it."""
    written(folder, f"{name}.py", code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    written(info, "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    written(info, "entry_points.txt", f"[takeback.tools]\n{points}\n")
    monkeypatch.syspath_prepend(str(folder))


PLUGIN = (
    PING
    + """
from takeback.tools.registry import Family

class PingFamily(Family):
    name = "ping"
    @classmethod
    async def open(cls, services):
        family = cls()
        family.tools = [Ping()]
        return family
"""
)


async def test_only_plugins_that_are_named_are_loaded(tmp_path, monkeypatch):
    offered(tmp_path, monkeypatch, "takeback_ping_demo", "ping = takeback_ping_demo:PingFamily", PLUGIN)
    assert not (await opened(tmp_path)).tools
    assert "takeback_ping_demo" not in sys.modules
    assert list((await opened(tmp_path, plugins=["ping"])).tools) == ["ping"]


@pytest.mark.parametrize(
    ("points", "code", "fact"),
    [
        ("pong = takeback_bad_demo:X", "", "no installed package offers it"),
        ("ping = takeback_bad_demo:X", "", "could not be imported: AttributeError"),
        ("ping = takeback_bad_demo:X", "X = 1/0", "could not be imported: ZeroDivisionError"),
        ("ping = takeback_bad_demo:X", "X = 1", "are no Family"),
        (
            "ping = takeback_bad_demo:PingFamily",
            PLUGIN.replace('name = "ping"', 'name = "pong"'),
            "call themselves 'pong'",
        ),
        ("ping = takeback_bad_demo:Family", "from takeback.tools.registry import Family", "is no name for a family"),
    ],
)
async def test_a_plugin_that_is_not_usable_is_told(tmp_path, monkeypatch, points, code, fact):
    offered(tmp_path, monkeypatch, "takeback_bad_demo", points, code)
    with pytest.raises(DefinitionError, match=fact) as refused:
        await opened(tmp_path, plugins=["ping"])
    assert refused.value.advice
    sys.modules.pop("takeback_bad_demo", None)


async def test_a_plugin_that_two_packages_offer_is_told(tmp_path, monkeypatch):
    for name in ("takeback_one_demo", "takeback_two_demo"):
        offered(tmp_path, monkeypatch, name, f"ping = {name}:PingFamily", PLUGIN)
    assert len(importlib.metadata.entry_points(group="takeback.tools", name="ping")) == 2
    with pytest.raises(DefinitionError, match="More than one"):
        await opened(tmp_path, plugins=["ping"])


# -- files of one's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("x = 1\ny = x / 0\n", "line 2: ZeroDivisionError"),
        ("x = 1\n\nclass (:\n", "line 3: SyntaxError"),
        ("import surely_no_such_module\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "defines no tool"),
        (
            PING.replace("    async def run", "    async def walk"),
            "line 7: Ping does not define `run`",
        ),
        (PING.replace("async def run", "def run"), "defines `run` without `async`"),
        (TOOL.format(cls="Ping", name="Ping!"), "'Ping!', which is no name for a tool"),
        (TOOL.format(cls="Ping", name="start_run"), "like one of the server's own tools"),
        (
            PING + "\n    def __init__(self, a, b): ...\n",
            "cannot be made from the services alone",
        ),
        (PING + "\nSettings = 1\n", "no pydantic model"),
        (PLUGIN + PLUGIN.replace("PingFamily", "PongFamily"), "defines 2 families"),
    ],
)
async def test_a_file_that_is_not_usable_is_told_with_its_line(tmp_path, text, fact):
    with pytest.raises(DefinitionError) as refused:
        await opened(tmp_path, [written(tmp_path, "mine.py", text)])
    assert fact in str(refused.value)
    assert "mine.py" in str(refused.value)
    assert refused.value.advice


async def test_a_file_that_is_not_there_is_told(tmp_path):
    with pytest.raises(DefinitionError, match="There is no file"):
        await opened(tmp_path, [tmp_path / "nothing.py"])
    with pytest.raises(DefinitionError, match="is no Python file"):
        await opened(tmp_path, [written(tmp_path, "mine.txt", "x = 1")])


async def test_a_file_named_like_a_module_of_python_replaces_nothing(tmp_path):
    import json

    registry = await opened(tmp_path, [written(tmp_path, "json.py", PING)])
    assert list(registry.tools) == ["ping"]
    assert sys.modules["json"] is json


async def test_a_file_whose_name_is_none_for_a_family_is_told(tmp_path):
    with pytest.raises(DefinitionError, match="'my-tools' is no name for a family"):
        await opened(tmp_path, [written(tmp_path, "my-tools.py", PING)])


async def test_unfinished_bases_and_imported_tools_of_a_file_are_no_tools_of_it(tmp_path):
    text = (
        "from takeback.tools.contract import Arguments, ReadTool, Result\n"
        "from takeback.tools.memory import GetValue\n"
        "class Nothing(Arguments):\n    pass\n"
        "class Base(ReadTool[Nothing]):\n    arguments, result = Nothing, Result\n"
        "class _Draft(Base):\n    pass\n"
        "class Ping(Base):\n    name, title, description = 'ping', 'Ping', 'Pings.'\n"
        "    async def run(self, arguments, context):\n        return Result()\n"
    )
    assert list((await opened(tmp_path, [written(tmp_path, "mine.py", text)])).tools) == ["ping"]


async def test_settings_of_a_file_are_typed(tmp_path):
    text = PING + (
        "    def __init__(self, services):\n        self.url = services.settings.url\n"
        "from pydantic import BaseModel\n"
        "class Settings(BaseModel):\n    url: str\n    tries: int = 3\n"
    )
    path = written(tmp_path, "mine.py", text)

    async def with_settings(values: dict[str, object]) -> Registry:
        return await Registry.open(
            lambda family: kit_services(tmp_path, read_settings(family, values)), modules=[path], off=[*BUILT_IN]
        )

    tool: Any = (await with_settings({"url": "https://example.org"})).tools["ping"]
    assert tool.url == "https://example.org"
    for values, field in (({}, "url"), ({"url": "x", "tries": "many"}, "tries")):
        with pytest.raises(DefinitionError, match=field) as refused:
            await with_settings(values)
        assert refused.value.advice == "It takes: url, tries."
    with pytest.raises(DefinitionError, match=r"\[tools.settings.memory\] is not right: colour"):
        read_settings(MemoryFamily, {"colour": "red"})


# -- opening and closing -----------------------------------------------------------------------------------------------


class Closing(Family):
    name = "closing"
    log: list[str] = []

    def __init__(self, label: str, *, fails: bool = False) -> None:
        self.label, self.fails = label, fails

    @classmethod
    async def open(cls, services) -> Self:
        return cls("opened")

    async def close(self) -> None:
        self.log.append(self.label)
        if self.fails:
            raise OSError(self.label)


async def test_what_was_opened_is_closed_when_a_later_family_cannot_be(tmp_path):
    text = (
        "import pathlib\n"
        "from takeback.tools.registry import Family\n"
        "class Mine(Family):\n    name = '{name}'\n"
        "    @classmethod\n    async def open(cls, services):\n"
        "        if '{name}' == 'second':\n            raise OSError('out of reach')\n        return cls()\n"
        "    async def close(self):\n        pathlib.Path({log!r}).write_text('closed')\n"
    )
    log = tmp_path / "log"
    files = [written(tmp_path, f"{name}.py", text.format(name=name, log=str(log))) for name in ("first", "second")]
    with pytest.raises(OSError, match="out of reach"):
        await opened(tmp_path, files)
    assert log.read_text() == "closed"


async def test_every_family_is_closed_though_one_fails():
    first, second = Closing("first"), Closing("second", fails=True)
    registry = Registry([first])
    registry.families = (first, second)
    Closing.log.clear()
    with pytest.raises(ExceptionGroup) as failed:
        await registry.close()
    assert Closing.log == ["second", "first"]
    assert [str(error) for error in failed.value.exceptions] == ["second"]


# -- definitions -------------------------------------------------------------------------------------------------------


def family_of(*tools: Any, name: str = "mine", systems: Sequence[Any] = ()) -> Family:
    made = type("Mine", (Closing,), {"name": name})("x")
    made.tools, made.systems = tools, systems
    return made


def test_names_taken_twice_are_told():
    with pytest.raises(
        DefinitionError, match="'look_around' of the family 'other' is called like one of the family 'mine'"
    ):
        Registry([family_of(Look()), family_of(Look(), name="other")])
    with pytest.raises(DefinitionError, match="two families called 'mine'"):
        Registry([family_of(), family_of()])
    with pytest.raises(DefinitionError, match="Two target systems are called 'memory'"):
        Registry([family_of(systems=[MemorySystem(), MemorySystem()])])
    with pytest.raises(DefinitionError, match="no usable name"):
        Registry([family_of(systems=[MemorySystem("a:b")])])


class Collides(Arguments):
    run_id: str = ""


class CollidesByAlias(Arguments):
    run: str = Field(alias="dry_run", default="")


class Loose(BaseModel):
    text: str = ""


class Permissive(Arguments):
    model_config = {"extra": "allow"}


class WithFunction(BaseModel):
    undo: Callable[[], None]


class WithBytes(BaseModel):
    content: bytes


class WithSecret(BaseModel):
    token: SecretStr


class WithPrivate(BaseModel):
    _client: object = None


@pytest.mark.parametrize(
    ("base", "change", "fact"),
    [
        (Look, {"name": None}, "has no `name`"),
        (Look, {"title": None}, "has no `title`"),
        (Look, {"title": " "}, "has an empty `title`"),
        (Look, {"description": None}, "has no `description`"),
        (Look, {"description": "x" * 301}, "description of 301 characters"),
        (Look, {"arguments": None}, "has no `arguments`"),
        (Look, {"arguments": Loose}, "does not derive from Arguments"),
        (Look, {"arguments": Permissive}, "lets unknown fields"),
        (Look, {"arguments": Collides}, "takes an argument `run_id`"),
        (Look, {"arguments": CollidesByAlias}, "takes an argument `dry_run`"),
        (Look, {"result": None}, "has no `result`"),
        (Look, {"result": dict}, "no pydantic model class"),
        (Look, {"timeout": 0}, "no positive number"),
        (Look, {"destructive": "no"}, "neither True nor False"),
        (PostNote, {"memo": None}, "has no `memo`"),
        (PostNote, {"outcome": None}, "has no `outcome`"),
        (PostNote, {"memo": WithFunction}, "not serialisable"),
        (PostNote, {"memo": WithBytes}, "bytes that JSON cannot carry"),
        (PostNote, {"memo": WithSecret}, "a secret that is written as stars"),
        (PostNote, {"memo": WithPrivate}, "private attribute `_client`"),
        (PostNote, {"result": Loose}, "a `result` that its `outcome` is not"),
        (PostNote, {"memo_version": 0}, "no number from 1"),
    ],
)
def test_what_is_missing_or_wrong_is_told_with_a_way_to_mend_it(base, change, fact):
    broken = type("Broken", (base,), change)
    tool = broken(MemorySystem()) if base is PostNote else broken()
    with pytest.raises(DefinitionError) as refused:
        check_tool(tool)
    assert "Broken" in str(refused.value)
    assert fact in str(refused.value)
    assert refused.value.advice.endswith((".", ")", '"')) or "like:" in refused.value.advice


def test_a_tool_of_no_kind_is_told():
    class Other(Tool[Any]):
        pass

    with pytest.raises(DefinitionError, match="none of the four kinds"):
        check_tool(Other())


def test_the_outcome_is_answered_unless_something_else_is_said():
    class Small(BaseModel):
        note: str

    class Outcome(Small):
        internal: str

    class Plain(PostNote):
        outcome = Outcome

    class Narrow(PostNote):
        outcome, result = Outcome, Small

    assert (Plain.result, Narrow.result) == (Outcome, Small)
    check_tool(Narrow(MemorySystem()))


def test_what_was_forgotten_is_named_with_its_alternative():
    from takeback.tools.definition import check_tool_class

    class Half(CompensableTool[Any, Any, Any]):
        async def capture(self, arguments, context): ...
        async def apply(self, arguments, memo): ...

    class NoReason(IrreversibleTool[Any, Any, Any]):
        async def capture(self, arguments, context): ...
        async def apply(self, arguments, memo): ...

    with pytest.raises(DefinitionError, match="does not define `compensate`") as refused:
        check_tool_class(Half)
    assert "derive from IrreversibleTool" in refused.value.advice
    with pytest.raises(DefinitionError, match="does not define `reason`"):
        check_tool_class(NoReason)


def test_the_servers_own_names_are_all_reserved():
    assert {"start_run", "rollback_run", "resume_from"} <= RUN_TOOLS
