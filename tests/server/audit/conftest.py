"""Benches whose engine streams what happens."""

from tests.server.engine.conftest import bench, open_bench

__all__ = ["bench", "open_bench"]
