"""The configuration that the page about HTTP shows is one that the server takes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from takeback.server.mcp.http_serve import doors_of
from takeback.server.mcp.http_tokens import digest_of
from takeback.server.settings import Settings, SettingsError, load

PAGE = Path(__file__).parents[2] / "docs" / "http.md"


def settings_of(folder: Path, text: str) -> Settings:
    (folder / "config.toml").write_text(text)
    return load(folder / "config.toml", data=folder / "data", environment={}).settings


async def test_the_configuration_on_the_page_opens_the_doors_it_speaks_of(tmp_path: Path) -> None:
    [text] = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text("utf-8"), re.S | re.M)
    doors = doors_of(settings_of(tmp_path, text), None)
    assert len(doors.verifiers) == 2
    assert doors.protected
    assert doors.protected.issuer == "https://login.example.org"
    assert doors.names.host("takeback.example.org")
    assert not (tmp_path / "data").exists(), "no token of its own is made where others are known"


@pytest.mark.parametrize(
    "text",
    [
        'issuer = "https://login.example.org"',
        'issuer = "https://login.example.org"\nresource = "https://t.example.org/mcp"',
        'issuer = "http://login.example.org"\nresource = "https://t.example.org/mcp"\njwks_url = "https://login.example.org/k"',
        'issuer = "https://login.example.org"\nresource = "t.example.org"\njwks_url = "https://login.example.org/k"',
        'resource = "https://t.example.org/mcp"',
        'hosts = ["https://t.example.org"]',
        'origins = ["t.example.org"]',
        'host = "192.0.2.1"',
    ],
)
def test_what_would_let_in_anybody_or_nobody_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError):
        doors_of(settings_of(tmp_path, f"[http]\n{text}\n"), None)


@pytest.mark.parametrize("token", ["", "short", "with a blank in between it", "ümlaut-in-a-token-of-enough-length"])
def test_a_token_that_is_no_good_is_refused(tmp_path: Path, token: str) -> None:
    with pytest.raises(SettingsError):
        doors_of(settings_of(tmp_path, ""), token)


def test_a_token_in_the_file_instead_of_its_digest_is_refused_without_being_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as refused:
        settings_of(tmp_path, '[http.tokens]\nada = "the-token-itself-which-is-secret"\n')
    assert "the-token-itself" not in f"{refused.value} {refused.value.advice}"


def test_two_names_with_one_token_are_refused(tmp_path: Path) -> None:
    digest = digest_of("a token")
    with pytest.raises(SettingsError):
        settings_of(tmp_path, f'[http.tokens]\nada = "{digest}"\nben = "{digest}"\n')


def test_a_token_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "")
    doors_of(settings, None)
    (settings.data / "http.token").chmod(0o640)
    with pytest.raises(SettingsError, match="Others can read"):
        doors_of(settings, None)
