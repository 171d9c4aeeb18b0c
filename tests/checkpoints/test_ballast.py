"""The reserve is there, is given up when asked, comes back, and never stops anything."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from takeback.checkpoints.ballast import Ballast

SIZE = 3 * 1024 * 1024


def test_the_reserve_takes_real_space_and_comes_back_after_release(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", SIZE)
    assert not ballast.present
    assert ballast.ensure() and ballast.ensure() and ballast.present
    if os.name != "nt":
        assert (tmp_path / "ballast").stat().st_blocks * 512 >= SIZE
    assert ballast.release()
    assert not ballast.present
    assert not ballast.release()
    assert ballast.ensure() and ballast.present
    assert [path.name for path in tmp_path.iterdir()] == ["ballast"]


def test_it_is_written_where_nothing_can_be_preallocated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unknown, raising=False)
    ballast = Ballast(tmp_path / "ballast", SIZE + 5)
    assert ballast.ensure() and ballast.present
    assert (tmp_path / "ballast").stat().st_size == SIZE + 5


def test_a_reserve_that_cannot_be_made_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Ballast(tmp_path / "missing" / "ballast", SIZE).ensure()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(os, "write", full)
    ballast = Ballast(tmp_path / "ballast", SIZE)
    assert not ballast.ensure() and not ballast.present and not ballast.release()
    assert list(tmp_path.iterdir()) == []


def test_a_reserve_of_nothing_is_always_there(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path / "ballast", 0)
    assert ballast.present and ballast.ensure() and not ballast.release()


def test_a_reserve_that_became_too_short_is_made_anew(tmp_path: Path) -> None:
    Ballast(tmp_path / "ballast", SIZE).ensure()
    assert not Ballast(tmp_path / "ballast", 2 * SIZE).present
    assert Ballast(tmp_path / "ballast", 2 * SIZE).ensure()
    assert (tmp_path / "ballast").stat().st_size == 2 * SIZE
