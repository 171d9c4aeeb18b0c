"""Benches whose engine tells people."""

from tests.server.engine.conftest import bench, open_bench

__all__ = ["bench", "open_bench"]
