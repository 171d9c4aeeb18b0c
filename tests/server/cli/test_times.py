from __future__ import annotations

from datetime import UTC, datetime

import pytest

from takeback.server.cli.times import moment
from takeback.server.engine.answers import EngineError

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("given", "at"),
    [
        ("90m", "2026-11-20T10:30:00.000Z"),
        ("2h", "2026-11-20T10:00:00.000Z"),
        ("3d", "2026-11-17T12:00:00.000Z"),
        ("2026-11-20T09:00Z", "2026-11-20T09:00:00.000Z"),
        ("2026-11-20T09:00+02:00", "2026-11-20T07:00:00.000Z"),
    ],
)
def test_moments_are_given_as_so_long_ago_or_as_a_time(given: str, at: str):
    assert moment(given, NOW) == at


def test_what_is_no_moment_is_refused_with_examples():
    with pytest.raises(EngineError, match="no time") as caught:
        moment("lately", NOW)
    assert "2h" in caught.value.advice
