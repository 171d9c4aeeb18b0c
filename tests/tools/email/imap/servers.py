"""Real IMAP servers on loopback, started by the tests: Dovecot (Debian), and pymap (PyPI), which lacks what Dovecot has."""

from __future__ import annotations

import imaplib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

USER, PASSWORD = "anna", "secret"
DOVECOT = shutil.which("dovecot", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


@dataclass
class Server:
    """A server that answers."""

    kind: str
    port: int
    tls_port: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)


def why_no_dovecot() -> str:
    """Why it cannot be started here; empty: it can."""
    if DOVECOT is None:
        return "dovecot-imapd is not installed"
    return "" if os.getuid() == 0 else "Dovecot is started as root by these tests"


CONFIG = """
protocols = imap
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
ssl = {ssl}
ssl_cert = <{cert}
ssl_key = <{key}
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_fsync = never
auth_failure_delay = 0
mail_location = maildir:{folder}/mail/%u{layout}
mail_uid = {uid}
mail_gid = {gid}
first_valid_uid = 1
default_client_limit = 200
passdb {{
  driver = static
  args = password={password}
}}
userdb {{
  driver = static
  args = home={folder}/home/%u
}}
namespace inbox {{
  inbox = yes
  separator = {separator}
  prefix = {prefix}
  mailbox {trash} {{
    special_use = \\Trash
    auto = create
  }}
  mailbox Drafts {{
    special_use = \\Drafts
    auto = create
  }}
  mailbox Sent {{
    special_use = \\Sent
    auto = create
  }}
}}
service imap-login {{
  chroot =
  service_count = 0
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""


@contextmanager
def dovecot(certificate: Path, *, separator: str = "/", prefix: str = "", trash: str = "Trash") -> Iterator[Server]:
    """Dovecot with a configuration of its own. Each user name is a mailbox of its own."""
    # not below pytest's folder, which only root may enter: the mail processes give up root
    with TemporaryDirectory(prefix="takeback-dovecot-", ignore_cleanup_errors=True) as folder:
        yield from _dovecot(Path(folder), certificate, separator=separator, prefix=prefix, trash=trash)


def _dovecot(folder: Path, certificate: Path, *, separator: str, prefix: str, trash: str) -> Iterator[Server]:
    mail = folder / "mail"
    for each in (mail, folder / "home", folder / "run", folder / "state"):
        each.mkdir()
    nobody = 65534
    for each in (folder, mail, folder / "home"):
        os.chown(each, nobody, nobody)
    for _ in range(5):
        port, tls_port = _free_port(), _free_port()
        config = folder / "dovecot.conf"
        config.write_text(
            CONFIG.format(
                folder=folder, ssl="yes", cert=certificate / "cert.pem", key=certificate / "key.pem", uid=nobody,
                gid=nobody, password=PASSWORD, separator=separator, prefix=prefix, trash=trash, port=port,
                tls_port=tls_port, layout=":LAYOUT=fs" if separator == "/" else "",
            )
        )  # fmt: skip
        assert DOVECOT is not None
        process = subprocess.Popen(
            [DOVECOT, "-F", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if _answers(port, process):
            try:
                yield Server("dovecot", port, tls_port, process)
            finally:
                process.terminate()
                process.wait(20)
                for line in (folder / "log").read_text().splitlines():
                    if "Error: " in line or "Panic: " in line or "Fatal: " in line:
                        print("Dovecot:", line)  # what a failed test is to be read with
            return
    log = (folder / "log").read_text() if (folder / "log").exists() else ""
    raise AssertionError(f"Dovecot did not start: {log[-2000:]}")


@contextmanager
def pymap(*, seconds: float = 20) -> Iterator[Server]:
    """pymap with one mailbox in memory: no CONDSTORE, no SPECIAL-USE, no SORT."""
    for _ in range(5):
        port = _free_port()
        program = Path(sys.executable).parent / "pymap"
        process = subprocess.Popen(
            [
                *(str(program), "--host", "127.0.0.1", "--port", str(port), "--no-tls", "--no-service", "admin"),
                *("--no-service", "managesieve", "dict", "--demo-user", USER, "--demo-password", PASSWORD),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if _answers(port, process):
            try:
                yield Server("pymap", port, process=process)
            finally:
                process.terminate()
                process.wait(20)
            return
    raise AssertionError("pymap did not start")


def _answers(port: int, process: subprocess.Popen[bytes]) -> bool:
    """Wait until it greets; false: it ended."""
    while process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 20) as probe:
                return probe.recv(10).startswith(b"* OK")
        except ConnectionRefusedError:
            time.sleep(0.02)  # a server says by nothing else that it listens
    return False


def _free_port() -> int:
    """Servers want a number. Somebody may take it first; then they end, and another is tried."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def person(server: Server, user: str = USER) -> imaplib.IMAP4:
    """Another mail program of the same person."""
    client = imaplib.IMAP4("127.0.0.1", server.port, timeout=20)
    client.login(user, PASSWORD)
    return client
