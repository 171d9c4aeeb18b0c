"""`takeback tool new` and `takeback tool check`: a working tool to start from, and the conformance kit run on one.

What is written works as it stands, on a folder or a small database of its own; its author replaces that by what the tool is
really about, and the test says at each step what is still missing.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Final, Literal

from takeback.tools.definition import DefinitionError, check_tool_name
from takeback.tools.discovery import load_file

ToolKind = Literal["read", "reversible", "compensable", "irreversible"]
KINDS: Final[tuple[ToolKind, ...]] = ("read", "reversible", "compensable", "irreversible")

EXIT_NOT_CHECKED: Final = 2
"""There was nothing to run, or nothing to run it with. Other codes are pytest's: 0 all passed, 1 some failed."""

_ARGUMENTS: Final = """

class ${cls}Arguments(Arguments):  # what a caller may say; the descriptions are read by models
    text: str = Field(min_length=1, max_length=10_000, description="The text.")

"""

_MEMO: Final = """
class ${cls}Memo(Result):  # what the way back needs, written down before the act
    key: str
    text: str

"""

_INIT: Final = """
    def __init__(self, services: Services) -> None:
        self.folder = services.data / "$name"
"""

_READ: Final = f'''\
"""$title: looks, and changes nothing."""

from pydantic import Field

from takeback.tools.contract import Arguments, CallContext, ReadTool, Result
from takeback.tools.registry import Services
{_ARGUMENTS}
class ${{cls}}Result(Result):  # what is answered
    found: list[str]


class ${{cls}}(ReadTool[${{cls}}Arguments]):
    """Says which entries hold a text."""

    name, title = "$name", "$title"
    description = "Says which entries hold a text."
    arguments, result = ${{cls}}Arguments, ${{cls}}Result
{_INIT}
    async def run(self, arguments: ${{cls}}Arguments, context: CallContext) -> ${{cls}}Result:
        entries = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        return ${{cls}}Result(found=[entry.name for entry in entries if arguments.text in entry.read_text("utf-8")])
'''

_COMPENSABLE: Final = f'''\
"""$title: acts, and knows the act that makes up for it. Replace the folder by what you talk to."""

from typing import Literal
from uuid import uuid4

from pydantic import Field

from takeback.tools.contract import Arguments, CallContext, CompensableTool, Result, Unknown
from takeback.tools.registry import Services
{_ARGUMENTS}{_MEMO}
class ${{cls}}(CompensableTool[${{cls}}Arguments, ${{cls}}Memo, ${{cls}}Memo]):
    """Adds an entry that can be removed again."""

    name, title = "$name", "$title"
    description = "Adds an entry. It can be removed again."
    arguments, memo, outcome = ${{cls}}Arguments, ${{cls}}Memo, ${{cls}}Memo
    destructive, how = False, "Remove the entry again."
    hold = 0.0  # seconds in the outbox, in which it can be called off; 0: done at once, and a person is asked first
{_INIT}
    async def capture(self, arguments: ${{cls}}Arguments, context: CallContext) -> ${{cls}}Memo:
        return ${{cls}}Memo(key=uuid4().hex, text=arguments.text)  # found again after a crash

    async def apply(self, arguments: ${{cls}}Arguments, memo: ${{cls}}Memo) -> ${{cls}}Memo:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / memo.key).write_text(memo.text, "utf-8")
        return memo

    async def happened(self, memo: ${{cls}}Memo) -> ${{cls}}Memo | Literal[False] | Unknown:
        return memo if (self.folder / memo.key).exists() else False

    async def compensate(self, memo: ${{cls}}Memo, outcome: ${{cls}}Memo | Unknown) -> str:
        entry = self.folder / memo.key
        if entry.exists() and not memo.text.startswith(entry.read_text("utf-8")):  # a crash may have cut it short
            raise RuntimeError("Somebody changed the entry since, so it was left as it is.")
        entry.unlink(missing_ok=True)  # may be called again: what is gone is done
        return "Removed the entry."
'''

_IRREVERSIBLE: Final = f'''\
"""$title: cannot be taken back, so a person is asked first. Replace the folder by what you talk to."""

from uuid import uuid4

from pydantic import Field

from takeback.tools.contract import Arguments, CallContext, IrreversibleTool, Result
from takeback.tools.registry import Services
{_ARGUMENTS}{_MEMO}
class ${{cls}}(IrreversibleTool[${{cls}}Arguments, ${{cls}}Memo, ${{cls}}Memo]):
    """Says something to everybody."""

    name, title = "$name", "$title"
    description = "Says something to everybody. It cannot be taken back."
    arguments, memo, outcome = ${{cls}}Arguments, ${{cls}}Memo, ${{cls}}Memo
{_INIT}
    async def capture(self, arguments: ${{cls}}Arguments, context: CallContext) -> ${{cls}}Memo:
        return ${{cls}}Memo(key=uuid4().hex, text=arguments.text)

    async def apply(self, arguments: ${{cls}}Arguments, memo: ${{cls}}Memo) -> ${{cls}}Memo:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / memo.key).write_text(memo.text, "utf-8")
        return memo

    def reason(self, arguments: ${{cls}}Arguments, memo: ${{cls}}Memo) -> str:
        return "Everybody hears it at once."
'''

_REVERSIBLE: Final = '''\
"""$title: changes an object of a target system, which puts it back. Replace MemorySystem by your own TargetSystem."""

from collections.abc import Sequence
from typing import Self

from pydantic import Field

from takeback.journal.states import Effect
from takeback.tools.contract import Arguments, CallContext, Prepared, Result, ReversibleTool, SwapPrepared, Target
from takeback.tools.memory_system import MemorySystem
from takeback.tools.registry import Family, Services


class ${cls}Arguments(Arguments):  # what a caller may say; the descriptions are read by models
    key: str = Field(min_length=1, max_length=200, description="Which entry.")
    text: str = Field(max_length=1_000, description="What it should say.")


class ${cls}(ReversibleTool[${cls}Arguments]):
    """Sets an entry."""

    name, title = "$name", "$title"
    description = "Sets an entry. The earlier one can be put back."
    arguments, result = ${cls}Arguments, Result

    def __init__(self, system: MemorySystem) -> None:
        self.system = system

    async def targets(self, arguments: ${cls}Arguments, context: CallContext) -> Sequence[Target]:
        return [Target(self.system.name, arguments.key)]

    async def prepare(self, arguments: ${cls}Arguments, context: CallContext) -> Prepared:
        (before,) = await self.system.look([arguments.key])
        after = self.system.stage(arguments.text)
        effect = Effect(system=self.system.name, object=arguments.key, before=before, after=after)
        return SwapPrepared(self.system, [effect], result=lambda _: Result(), summary=f"Set {arguments.key}.")


class ${cls}Family(Family):
    name = "$name"

    @classmethod
    async def open(cls, services: Services) -> Self:
        family, system = cls(), MemorySystem("$name", file=services.data / "$name.db")
        family.systems, family.tools = [system], [${cls}(system)]
        return family
'''

_TEST: Final = '''\
"""Whether $name keeps its promises. Run it with `takeback tool check $name.py`, or with pytest."""

import pytest
from $name import ${cls}

from takeback.tools.conformance import ToolConformance, World, kit_services


class Test${cls}(ToolConformance):
    tool_class = ${cls}
    examples = [{"text": "hello"}]  # calls that can be carried out

    @pytest.fixture
    def tool(self, tmp_path):
        return ${cls}(kit_services(tmp_path))

    @pytest.fixture
    def world(self, tool):  # how to look at everything the tool could change
        return World(lambda: {path.name: path.read_text("utf-8") for path in tool.folder.glob("*")})
'''

_TEST_REVERSIBLE: Final = '''\
"""Whether $name keeps its promises. Run it with `takeback tool check $name.py`, or with pytest."""

import pytest
from $name import ${cls}

from takeback.tools.conformance import ToolConformance, World
from takeback.tools.memory_system import MemorySystem


class Test${cls}(ToolConformance):
    tool_class = ${cls}
    examples = [{"key": "there", "text": "new"}, {"key": "not there yet", "text": "new"}]

    @pytest.fixture
    def tool(self):
        system = MemorySystem("$name")
        system.edit("there", "old")
        yield ${cls}(system)
        system.close()

    @pytest.fixture
    def world(self, tool):  # how to look at everything the tool could change
        return World(tool.system.texts)
'''

_TEMPLATES: Final[dict[ToolKind, tuple[str, str]]] = {
    "read": (_READ, _TEST),
    "reversible": (_REVERSIBLE, _TEST_REVERSIBLE),
    "compensable": (_COMPENSABLE, _TEST),
    "irreversible": (_IRREVERSIBLE, _TEST),
}


def new_tool(name: str, kind: ToolKind, folder: Path) -> list[Path]:
    """Write a working tool and its conformance test; the files, the tool's first.

    :raises DefinitionError: the name is no name for a tool, or a file is there already (nothing is overwritten).
    """
    check_tool_name(name)
    if kind not in KINDS:
        raise DefinitionError(f"{kind!r} is no kind of tool.", advice=f"Choose one of: {', '.join(KINDS)}.")
    words = name.split("_")
    filled = {"name": name, "title": " ".join(words).capitalize(), "cls": "".join(word.capitalize() for word in words)}
    tool, test = (Template(template).substitute(filled) for template in _TEMPLATES[kind])
    files = {folder / f"{name}.py": tool, folder / f"test_{name}.py": test}
    for path in files:
        if path.exists():
            raise DefinitionError(f"{path} is there already.", advice="Choose another name, or another folder.")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(files)


def check_tool(path: Path, *, on_stderr: bool = False) -> int:
    """Run the conformance kit on a tool's file (with the test beside it), or on a test or folder of tests.

    :param on_stderr: let the kit report to stderr, where stdout carries something else. Otherwise it reports to stdout.
    :returns: an exit code: 0 if all is well, 1 if something was forgotten, `EXIT_NOT_CHECKED` if nothing could be checked.
    """
    path = path.absolute()
    test = path if path.is_dir() or path.name.startswith("test_") else path.with_name(f"test_{path.stem}.py")
    if not path.exists():
        return _not_checked(f"There is no file {path}.", "Check the path.")
    if test is not path:
        try:
            load_file(path)
        except DefinitionError as error:
            sys.stderr.write(f"{error}\n{error.advice}\n")
            return 1
    if not test.exists():
        return _not_checked(
            f"There is no test {test.name} beside {path.name}.",
            "Write one: a class derived from takeback.tools.conformance.ToolConformance, as `takeback tool new` does.",
        )
    if find_spec("pytest") is None or find_spec("pytest_asyncio") is None:
        return _not_checked("The conformance kit runs on pytest, which is not installed.", "Install takeback[check].")
    folder = test if test.is_dir() else test.parent
    # the author's own pytest settings must not decide whether a promise is kept
    options = [
        "-q",
        "-rf",
        "--tb=short",
        "--import-mode=prepend",
        "-c",
        os.devnull,
        f"--rootdir={folder}",
        "-o",
        "asyncio_mode=auto",
    ]
    options += ["-o", "asyncio_default_fixture_loop_scope=function", "-p", "no:cacheprovider"]
    done = subprocess.run(  # noqa: S603 -- this interpreter, on the file that its author asked to have run
        [sys.executable, "-m", "pytest", *options, str(test)],
        cwd=folder,
        stdout=sys.stderr if on_stderr else None,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )
    return EXIT_NOT_CHECKED if done.returncode == 5 else min(done.returncode, EXIT_NOT_CHECKED)


def _not_checked(fact: str, advice: str) -> int:
    sys.stderr.write(f"{fact}\n{advice}\n")
    return EXIT_NOT_CHECKED
