"""Databases on real servers: one server a session and version, one database a test."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Generator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.postgres_server import Server, drop, fresh, server
from tests.tools.database.postgres.world import build

from takeback.checkpoints.objects import MemoryObjectStore
from takeback.tools.database.postgres.database import PostgresDatabase
from takeback.tools.database.settings import DatabaseSettings

VERSIONS = (18, 16, 15)
