"""One house that most tests share, and houses of their own for those that end them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.http.house import House, Issuer, team

Build = Callable[..., House]


@pytest.fixture(scope="session")
def issuer() -> Issuer:
    return Issuer()


@pytest.fixture(scope="session")
def house(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[House]:
    """Known to ada and bob by token, to carol and dave by an issuer, and to me by the environment."""
    folder = tmp_path_factory.mktemp("house")
    built = House(folder, http=team(issuer, folder))
    yield built
    built.stop()


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    built: list[House] = []

    def make(name: str = "own", **options: Any) -> House:
        made = House(tmp_path / name, **options)
        built.append(made)
        return made

    yield make
    for each in built:
        each.stop()


@pytest.fixture(params=["modern", "legacy"])
def era(request: pytest.FixtureRequest) -> str:
    return request.param
