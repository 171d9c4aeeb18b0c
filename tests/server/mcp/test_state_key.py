"""The key of sealed states: made once, private, the same for everybody who shares the data directory."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from takeback.server.mcp.state_key import FILE_NAME, KEY_BYTES, request_state_key


def test_it_is_made_once_and_is_the_owners_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    key = request_state_key(data)
    assert len(key) == KEY_BYTES
    assert request_state_key(data) == key
    assert [path.name for path in data.iterdir()] == [FILE_NAME]
    if os.name == "posix":
        assert stat.S_IMODE((data / FILE_NAME).stat().st_mode) == 0o600


def test_many_that_start_at_once_agree_on_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(request_state_key, [tmp_path] * 64))
    assert len(keys) == 1


def test_one_of_a_wrong_length_is_replaced(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"short")
    assert len(request_state_key(tmp_path)) == KEY_BYTES
