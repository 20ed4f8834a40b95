"""Whose calls were whose is forgotten with the person; what was used stays counted."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import apsw

from sonia.db import connect, open_database
from sonia.forgetting import Scope, apply_tombstones, erase, tombstones
from sonia.router import PLACES
from sonia.router.ledger import Tally, hold, read_usage, settle
from tests.memory_given import MIGRATIONS

ADA, BOB = "user-ada", "user-bob"
MODEL = "openai/gpt-5"


def spend(c: apsw.Connection, day: str = "2026-01-02") -> None:
    tallies = {(day, MODEL, user): Tally(calls=1, prompt_tokens=10) for user in (ADA, BOB)}
    settle(c, tallies, [(("user", ADA, day), 40, 0.5), (("session", "ses_a", ""), 40, 0.5)])


def names(c: apsw.Connection) -> set[str]:
    rows = c.execute(
        "SELECT user_id FROM router_usage UNION SELECT key FROM router_budgets"
    ).fetchall()
    return {str(row[0]) for row in rows} - {""}


def counted(c: apsw.Connection) -> int:
    return sum(row.prompt_tokens for row in read_usage(c, "2000-01-01", None))


async def test_a_forgotten_person_leaves_sums_without_a_name(tmp_path: Path) -> None:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        await db.write(spend)
        scope = Scope(receipt="r", users={ADA}, persons={ADA}, sessions={"ses_a"})

        erasure = await db.write(lambda c: erase(c, scope, PLACES))

        assert erasure.counts == {"router_accounts": 2}
        assert await db.read(names) == {BOB}
        assert await db.read(counted) == 20


async def test_a_restored_copy_forgets_them_too_and_keeps_what_came_after(tmp_path: Path) -> None:
    at = int(dt.datetime(2026, 1, 3, tzinfo=dt.UTC).timestamp() * 1e6)
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        scope = Scope(receipt="r", users={ADA}, persons={ADA}, sessions={"ses_a"}, at=at)
        await db.write(spend)
        await db.write(lambda c: erase(c, scope, PLACES))
        known = await db.read(tombstones)
    async with open_database(tmp_path / "copy.db", MIGRATIONS) as copy:
        await copy.write(spend)
        await copy.write(lambda c: spend(c, "2026-01-09"))
        await copy.write(lambda c: hold(c, [(("session", "ses_a", ""), 40, 0.5)]))

        await copy.write(lambda c: apply_tombstones(c, known, PLACES))

        rows = await copy.read(
            lambda c: c.execute(
                "SELECT day, user_id FROM router_usage WHERE user_id <> ?", (BOB,)
            ).fetchall()
        )
    assert sorted(rows) == [("2026-01-02", ""), ("2026-01-09", ADA)]
    connection = connect(tmp_path / "copy.db", read_only=True)
    try:
        assert counted(connection) == 40
    finally:
        connection.close()
