"""Logs name types and places, never contents."""

from __future__ import annotations

import logging
import sys

from takeback.server.mcp.discretion import DiscreetFormatter, places


def broken() -> BaseException:
    try:
        raise RuntimeError("the password is hunter2")
    except RuntimeError as error:
        return error


def test_an_exception_is_logged_without_its_text_and_without_source_lines() -> None:
    error = broken()
    record = logging.LogRecord(
        "x", logging.ERROR, __file__, 1, "it broke", (), (type(error), error, error.__traceback__)
    )
    line = DiscreetFormatter("takeback: %(message)s").format(record)
    assert line.startswith("takeback: it broke")
    assert "RuntimeError" in line
    assert "in broken" in line
    assert "hunter2" not in line


def test_places_are_named_outermost_first() -> None:
    assert "test_discretion.py" in places(broken())
    assert sys.exc_info() == (None, None, None)
