"""The contract as a test suite: derive a class, say where the tool and its world are, and be told what you forgot.

    class TestPostNote(ToolConformance):
        examples = [{"text": "hello"}]

        @pytest.fixture
        def board(self):
            return Board()

        @pytest.fixture
        def tool(self, board):
            return PostNote(board)

        @pytest.fixture
        def world(self, board):
            return World(snapshot=lambda: dict(board.notes))

Ships with the package; needs the extra `takeback[check]` (pytest and pytest-asyncio). Nothing else of the package imports it.
"""

from __future__ import annotations

try:
    import pytest
except ImportError as error:
    raise ImportError(
        "The conformance kit runs on pytest, which is not installed: install takeback with its extra, takeback[check]."
    ) from error

# asserts in here explain themselves only if pytest rewrites them
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in ("base", "said", "acting", "crashing", "system")))

from takeback.tools.conformance.system import SystemConformance  # noqa: E402 -- after the rewrite is asked for
from takeback.tools.conformance.tool import ToolConformance  # noqa: E402 -- as above
from takeback.tools.conformance.world import KitObjects, World, kit_services  # noqa: E402 -- as above

__all__ = ["KitObjects", "SystemConformance", "ToolConformance", "World", "kit_services"]
