"""A real server in a real process, spoken to over HTTP; and tokens of an issuer that exists only here."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import httpx2
import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from tests.signs import SECONDS

import takeback.tools.memory
from takeback.server.mcp.http_tokens import digest_of

SLOW_TOOLS = Path(__file__).parents[1] / "server" / "mcp" / "slow_tools.py"
ADA, BOB, MINE = (f"{name}-token-of-enough-characters" for name in ("ada", "bob", "my"))
ISSUER, RESOURCE = "https://issuer.example.org", "https://takeback.example.org/mcp"
FRAME = 100_000
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}


def call_body(tool: str, arguments: Mapping[str, Any], *, id: object = 1) -> dict[str, Any]:
    """A `tools/call` of the 2026 protocol."""
    params = {"name": tool, "arguments": dict(arguments), "_meta": ENVELOPE}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def headers(token: str | None, **more: str) -> dict[str, str]:
    """Of a request of the 2026 protocol."""
    found = {
        "accept": "application/json, text/event-stream",
        "content-type": "application/json",
        "mcp-protocol-version": "2026-07-28",
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return found if token is None else found | {"authorization": f"Bearer {token}"}


def call_headers(token: str | None, tool: str, **more: str) -> dict[str, str]:
    """Of a `tools/call`."""
    return headers(token, mcp_method="tools/call", mcp_name=tool, **more)


class House:
    """One running server."""

    def __init__(
        self, folder: Path, *, http: str = "", token: str | None = MINE, arguments: tuple[str, ...] = ()
    ) -> None:
        """
        :param http: what stands in `[http]`.
        :param token: TAKEBACK_HTTP_TOKEN.
        """
        self.folder, self.workspace, self.data = folder, folder / "workspace", folder / "data"
        self.workspace.mkdir(parents=True, exist_ok=True)
        self.config = folder / "takeback.toml"
        modules = [str(Path(takeback.tools.memory.__file__)), str(SLOW_TOOLS)]
        self.config.write_text(
            f"key_file = {json.dumps(str(folder / 'keys' / 'chain.key'))}\n"
            f"anchor_file = {json.dumps(str(folder / 'anchors' / 'heads.log'))}\n"
            f"[limits]\nframe_bytes = {FRAME}\nread_bytes = 50000\nballast_bytes = 4096\n"
            f"[tools]\nmodules = {json.dumps(modules)}\n[http]\n{http}\n"
        )
        environment = {name: value for name, value in os.environ.items() if not name.startswith("TAKEBACK_")}
        if token is not None:
            environment["TAKEBACK_HTTP_TOKEN"] = token
        self.command = [
            sys.executable, "-m", "takeback", "serve", "--workspace", str(self.workspace),
            "--data", str(self.data), "--config", str(self.config),
        ]  # fmt: skip
        self.process = subprocess.Popen(
            [*self.command, "--http", "--port", "0", *arguments],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip
        self.said: list[str] = []
        self._url = ""
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said.append(line)
            found = re.search(r"serves MCP at (http://\S+)", line)
            if found:
                self._url = found[1]
                self._ready.set()
        self._ready.set()

    @property
    def url(self) -> str:
        assert self._ready.wait(30)
        assert self._url, "".join(self.said)
        return self._url

    @property
    def gate(self) -> Path:
        """Where the slow tools say how far they are, and wait."""
        return self.data / "slow_tools"

    def shut_the_gate(self) -> None:
        """Let the slow tools wait again."""
        for name in ("committing", "go", "waiting"):
            (self.gate / name).unlink(missing_ok=True)

    @contextlib.asynccontextmanager
    async def connected(self, token: str, era: str, **options: Any) -> AsyncIterator[Client]:
        """The SDK's client with this token."""
        async with (
            httpx2.AsyncClient(headers={"authorization": f"Bearer {token}"}, timeout=30) as http,
            Client(
                streamable_http_client(self.url, http_client=http),
                mode="legacy" if era == "legacy" else "auto",
                **options,
            ) as client,
        ):
            yield client

    def stopped(self) -> int:
        """Wait for its end; the exit code."""
        code = self.process.wait(timeout=SECONDS)
        self._reader.join(5)
        return code

    def stop(self) -> None:
        """Away with it."""
        if self.process.poll() is None:
            self.process.kill()
        self.stopped()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Issuer:
    """Signs tokens."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.other = ec.generate_private_key(ec.SECP256R1())
        self.rsa = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def shared(self, secret: str, kid: str) -> str:
        """A token signed with a shared secret."""

        def part(raw: bytes) -> str:
            return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

        _, claims, _ = self.token().split(".")
        head = part(json.dumps({"alg": "HS256", "kid": kid, "typ": "at+jwt"}).encode())
        signature = hmac.digest(secret.encode(), f"{head}.{claims}".encode(), hashlib.sha256)
        return f"{head}.{claims}.{part(signature)}"

    def published(self) -> str:
        """The key set."""
        elliptic = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(self.key.public_key()))
        plain = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.rsa.public_key()))
        secret = {"kty": "oct", "kid": "shared", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}
        return json.dumps(
            {"keys": [elliptic | {"kid": "one", "use": "sig"}, plain | {"kid": "two", "alg": "RS256"}, secret]}
        )

    def token(
        self, subject: str = "carol", *, key: Any = None, alg: str = "ES256", kid: str | None = "one", **claims: Any
    ) -> str:
        """An access token; a claim of None is left out."""
        now = int(time.time())
        said: dict[str, Any] = {
            "iss": ISSUER, "aud": RESOURCE, "sub": subject, "exp": now + 600, "iat": now, "client_id": "desk",
            "scope": "takeback openid", **claims,
        }  # fmt: skip
        kept = {name: value for name, value in said.items() if value is not None}
        return jwt.encode(
            kept,
            self.key if key is None else key,
            algorithm=alg,
            headers=({"kid": kid} if kid else {}) | {"typ": "at+jwt"},
        )


def team(issuer: Issuer, folder: Path) -> str:
    """`[http]` of a server for several people."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "jwks.json").write_text(issuer.published())
    return (
        f'issuer = "{ISSUER}"\nresource = "{RESOURCE}"\njwks_file = "{folder / "jwks.json"}"\n'
        'required_scopes = ["takeback"]\norigins = ["https://app.example.org"]\n'
        f'[http.tokens]\nada = "{digest_of(ADA)}"\nbob = "{digest_of(BOB)}"\n'
    )


def data(result: Any) -> dict[str, Any]:
    """The structured part of an answer."""
    assert result.structured_content is not None, result
    return result.structured_content
