"""A person's machine with clients on it, and nothing of whoever runs the tests."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from takeback.server.cli.app import run

ROOT = Path(__file__).parents[2]


@dataclass
class Answered:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Desk:
    """A home folder, a workspace in it, and the command line."""

    home: Path
    site: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *words: str) -> Answered:
        self.capture.readouterr()
        code = run(["install", *words])
        printed = self.capture.readouterr()
        return Answered(int(code), printed.out, printed.err)

    def install(self, client: str, *words: str) -> Answered:
        return self(client, "--workspace", str(self.site), "--no-check", *words)

    @property
    def cursor(self) -> Path:
        return self.home / ".cursor" / "mcp.json"

    def everything(self) -> dict[str, bytes]:
        """Every file of the person but what takeback remembers for itself."""
        return {
            str(path.relative_to(self.home)): path.read_bytes()
            for path in self.home.rglob("*")
            if path.is_file() and ".local" not in path.parts
        }


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    home, empty = tmp_path / "home", tmp_path / "bin"
    site = home / "site"
    site.mkdir(parents=True)
    empty.mkdir()
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "CLAUDE_CONFIG_DIR", "APPDATA", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name in [name for name in os.environ if name.startswith("TAKEBACK_")]:  # also those that measure the tests
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("PATH", str(empty))
    monkeypatch.chdir(site)
    monkeypatch.setattr("sys.stdin", io.StringIO())
    return Desk(home, site, capsys)


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[Sequence[str]], None]:
    """Put a person with these answers in front of the terminal."""

    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    def sit_down(lines: Sequence[str]) -> None:
        monkeypatch.setattr("sys.stdin", Person("".join(f"{each}\n" for each in lines)))

    return sit_down


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What others install."""
    if importlib.util.find_spec("build") is None:
        pytest.skip("the build front end is a development dependency")
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert built.returncode == 0, built.stdout + built.stderr
    [found] = out.glob("*.whl")
    return found


@dataclass(frozen=True)
class Installers:
    """`uv` and `pipx`, in an environment that is kept between test runs."""

    programs: Path
    environment: dict[str, str]
    """A user without anything, whose installers find packages where this machine's pip does."""

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.programs / words[0]), *words[1:]]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=170, env=self.environment | more, stdin=subprocess.DEVNULL
        )


@pytest.fixture(scope="session")
def installers(tmp_path_factory: pytest.TempPathFactory) -> Installers:
    if os.name != "posix":
        pytest.skip("the environment is laid out as on POSIX")
    import fcntl

    kept = ROOT / ".venv" / "installers"
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (kept / "bin" / "pipx").exists():
            subprocess.run([sys.executable, "-m", "venv", str(kept)], check=True, timeout=60)
            pip = [str(kept / "bin" / "python"), "-m", "pip", "install", "--quiet", "uv==0.13.8", "pipx==1.18.4"]
            try:
                done = subprocess.run(pip, capture_output=True, text=True, timeout=170)
                why = done.stderr.strip()[-300:] if done.returncode else ""
            except subprocess.TimeoutExpired:
                why = "pip took too long"
            if why:
                (pytest.fail if os.environ.get("CI", "").lower() in ("1", "true") else pytest.skip)(
                    f"uv and pipx could not be fetched: {why}"
                )
    home = tmp_path_factory.mktemp("user")
    environment = {
        "PATH": os.pathsep.join([str(kept / "bin"), str(home / ".local" / "bin"), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "UV_CACHE_DIR": str(kept / "cache"),
        "UV_PYTHON": sys.executable,
        **{name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))},
    }
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True)
    for setting, value in re.findall(r"^[\w:]+\.(index-url|find-links)='(.*)'$", listed.stdout, re.M):
        environment["UV_DEFAULT_INDEX" if setting == "index-url" else "UV_FIND_LINKS"] = value
    return Installers(kept / "bin", environment)


async def spoken_to(command: str, arguments: Sequence[str], environment: dict[str, str], folder: Path) -> set[str]:
    """Start a server as a client does, let it write and take back; the tools it offers."""
    from mcp import Client, StdioServerParameters

    parameters = StdioServerParameters(command=command, args=list(arguments), env=environment)
    async with Client(parameters) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        await client.call_tool("write_file", {"path": "hello.txt", "content": "hello\n"})
        assert (folder / "hello.txt").read_text() == "hello\n"
        await client.call_tool("rollback_run", {"last": 1})
        assert not (folder / "hello.txt").exists()
    return tools
