"""A real database, a clock that the test moves, and plans."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import apsw
import pytest
import pytest_asyncio

from sonia.config import EvaOs
from sonia.control import Plan
from sonia.control.service import SqliteControl, open_control
from sonia.db import Database, open_database

MIGRATIONS = Path(__file__).parents[3] / "migrations"
START = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)

MakePlan = Callable[..., Plan]


class Clock:
    """The wall clock, by hand."""

    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> dt.datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += dt.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def migrations() -> Path:
    return MIGRATIONS


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as database:
        yield database


@pytest_asyncio.fixture
async def control(db: Database, clock: Clock) -> AsyncIterator[SqliteControl]:
    async with open_control(EvaOs(), db, clock=clock) as service:
        yield service


@pytest.fixture
def make_plan() -> MakePlan:
    def make(**changes: Any) -> Plan:
        fields: dict[str, Any] = {
            "tool": "file.write",
            "arguments": {"path": "notes.txt", "text": "hello"},
            "tier": 2,
            "working_directory": "/home/me/workspace",
            "tool_digest": "a" * 64,
            "preview": "Write 5 bytes to notes.txt:\nhello",
        }
        return Plan(**(fields | changes))

    return make


@pytest.fixture
def connection() -> apsw.Connection:
    """The schema in memory, for what is a function of a connection."""
    memory = apsw.Connection(":memory:")
    for file in sorted(MIGRATIONS.glob("*.sql")):
        memory.execute(file.read_text())
    return memory
