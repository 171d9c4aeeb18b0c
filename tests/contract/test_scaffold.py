"""A stranger's way: write a tool from a template or from the page, check it, have it loaded."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from takeback.tools.conformance import kit_services
from takeback.tools.definition import DefinitionError
from takeback.tools.registry import BUILT_IN, Registry, Services, read_settings
from takeback.tools.scaffold import EXIT_NOT_CHECKED, KINDS, check_tool, new_tool

PAGE = Path(__file__).parents[2] / "docs" / "add-a-tool.md"
BLOCKS = dict(re.findall(r"```python file=(\S+)\n(.*?)```", PAGE.read_text("utf-8"), re.S))


def pytest_on(folder: Path) -> subprocess.CompletedProcess[str]:
    """The tests of a folder, as their author would run them."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "ignore::pytest.PytestWarning",
        ".",
    ]
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, env=env)


@pytest.fixture
def page(tmp_path):
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text, "utf-8")
    return tmp_path


def test_scaffolded_tools_pass_their_own_tests_and_are_short(tmp_path):
    for kind in KINDS:
        tool, test = new_tool(f"my_{kind}", kind, tmp_path)
        assert test.name == f"test_my_{kind}.py"
        assert len(tool.read_text("utf-8").splitlines()) < 50
    done = pytest_on(tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout


async def test_scaffolded_tools_can_be_loaded_as_they_are(tmp_path):
    files = [new_tool(f"my_{kind}", kind, tmp_path)[0] for kind in KINDS]
    (tmp_path / "data").mkdir()
    registry = await Registry.open(lambda _: kit_services(tmp_path), modules=files, off=[*BUILT_IN])
    assert list(registry.tools) == [f"my_{kind}" for kind in KINDS]
    assert list(registry.systems) == ["my_reversible"]
    await registry.close()


def test_checking_a_sound_tool_succeeds(tmp_path, capfd):
    tool, _ = new_tool("post_note", "compensable", tmp_path)
    assert check_tool(tool) == 0
    assert "passed" in capfd.readouterr().out


def test_checking_can_leave_stdout_alone(tmp_path):
    tool, _ = new_tool("post_note", "read", tmp_path)
    code = (
        "import pathlib; from takeback.tools.scaffold import check_tool;"
        f"check_tool(pathlib.Path({str(tool)!r}), on_stderr=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == ""
    assert "passed" in done.stderr


def test_checking_a_tool_that_forgets_something_says_what(tmp_path, capfd):
    tool, _ = new_tool("post_note", "compensable", tmp_path)
    text = tool.read_text("utf-8")
    tool.write_text(text.replace("entry.unlink(missing_ok=True)", "entry.unlink()"), "utf-8")
    assert check_tool(tool) == 1
    assert "PostNote.compensate fails when called again" in capfd.readouterr().out


def test_checking_a_tool_that_cannot_be_loaded_says_where(tmp_path, capsys):
    tool, _ = new_tool("post_note", "compensable", tmp_path)
    tool.write_text(tool.read_text("utf-8").replace("    async def compensate", "    async def undo"), "utf-8")
    assert check_tool(tool) == 1
    said = capsys.readouterr().err
    line = tool.read_text("utf-8")[: tool.read_text("utf-8").index("class PostNote(")].count("\n") + 1
    assert f"post_note.py, line {line}: PostNote does not define `compensate`." in said
    assert "IrreversibleTool" in said


def test_what_cannot_be_checked_is_said(tmp_path, capsys):
    assert check_tool(tmp_path / "nothing.py") == EXIT_NOT_CHECKED
    assert "There is no file" in capsys.readouterr().err
    tool, test = new_tool("post_note", "compensable", tmp_path)
    test.unlink()
    assert check_tool(tool) == EXIT_NOT_CHECKED
    assert "There is no test test_post_note.py" in capsys.readouterr().err


def test_scaffolding_overwrites_nothing(tmp_path):
    (tmp_path / "test_post_note.py").write_text("mine")
    with pytest.raises(DefinitionError, match="is there already"):
        new_tool("post_note", "read", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["test_post_note.py"]


@pytest.mark.parametrize("name", ["Post", "post-note", "../x", "", "1st", "rollback_run", "x" * 65])
def test_names_that_are_none_are_refused(tmp_path, name):
    with pytest.raises(DefinitionError) as refused:
        new_tool(name, "read", tmp_path)
    assert refused.value.advice
    assert list(tmp_path.iterdir()) == []


# -- the page ------------------------------------------------------------------------------------------------------------


def test_the_tool_of_the_page_is_short_and_passes_the_kit(page, capfd):
    code = [line for line in BLOCKS["crm.py"].splitlines() if line.strip()]
    assert len(code) < 50
    assert check_tool(page / "crm.py") == 0, capfd.readouterr().out


def test_the_mistake_of_the_page_is_caught_with_the_words_of_the_page(page, capfd):
    tool = page / "crm.py"
    tool.write_text(tool.read_text("utf-8").replace("if there not in (None, memo.text):", "if False:"), "utf-8")
    assert check_tool(tool) == 1
    (words,) = re.findall(r"```text\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    said = re.sub(r"\s+", " ", capfd.readouterr().out)
    assert re.sub(r"\s+", " ", words.strip()) in said


async def test_the_tool_of_the_page_is_loaded_by_the_configuration_of_the_page(page):
    import tomllib

    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text("utf-8"), re.S)
    settings = tomllib.loads(text)["tools"]
    modules = [page / Path(module).name for module in settings["modules"]]

    def services_for(family) -> Services:
        return kit_services(page, read_settings(family, settings["settings"].get(family.name, {})))

    registry = await Registry.open(services_for, modules=modules, off=[*BUILT_IN])
    tool = registry.tools["add_note"]
    assert tool.family == "crm"
    assert tool.url == "https://crm.example.org"
    await registry.close()
