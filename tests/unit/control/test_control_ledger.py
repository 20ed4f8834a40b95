"""The ledger tells who touched it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import apsw
import pytest

from sonia.control import LedgerDown, Plan
from sonia.control.ledger import Stamp, append, entries, erase, verify
from sonia.control.service import SqliteControl
from sonia.db import Database
from sonia.errors import Internal, InvalidRequest, StorageFull
from sonia.types import now

ROWS = 9
MakePlan = Callable[..., Plan]


@pytest.fixture
def ledger(connection: apsw.Connection) -> apsw.Connection:
    for number in range(1, ROWS + 1):
        append(connection, "test", {"n": number}, Stamp(at=now(), correlation_id=f"req_{number}"))
    connection.execute("DROP TRIGGER control_ledger_keeps")
    connection.execute("DROP TRIGGER control_ledger_stays")
    return connection


def test_an_untouched_ledger_is_whole(ledger: apsw.Connection) -> None:
    check = verify(ledger)

    assert (check.ok, check.entries, check.broken_at) == (True, ROWS, None)
    assert check.head == entries(ledger, after=ROWS - 1, limit=1)[0].hash


@pytest.mark.parametrize("number", range(1, ROWS + 1))
@pytest.mark.parametrize(
    "change",
    [
        "data = '{\"n\":77}'",
        "data = 'not json'",
        "at = '2020-01-01T00:00:00.000000Z'",
        "kind = 'other'",
        "correlation_id = 'req_x'",
        "previous_hash = 'x'",
        "hash = 'x'",
        "digest = 'x'",
        "digest = NULL",
        "data = '{\"erased\":true}'",
        "number = 1000",
    ],
)
def test_t48_a_changed_row_is_named(ledger: apsw.Connection, number: int, change: str) -> None:
    ledger.execute(f"UPDATE control_ledger SET {change} WHERE number = ?", (number,))  # noqa: S608

    check = verify(ledger)

    assert (check.ok, check.broken_at) == (False, number)


@pytest.mark.parametrize("number", range(1, ROWS + 1))
def test_t48_a_deleted_row_is_named(ledger: apsw.Connection, number: int) -> None:
    ledger.execute("DELETE FROM control_ledger WHERE number = ?", (number,))

    check = verify(ledger)

    assert (check.ok, check.broken_at) == (False, number)


@pytest.mark.parametrize("kept", range(ROWS))
def test_t48_a_missing_tail_is_named(ledger: apsw.Connection, kept: int) -> None:
    ledger.execute("DELETE FROM control_ledger WHERE number > ?", (kept,))

    check = verify(ledger)

    assert (check.ok, check.broken_at) == (False, kept + 1)


def test_data_that_was_erased_and_said_so_leaves_the_chain_whole(
    connection: apsw.Connection,
) -> None:
    stamp = Stamp(at=now(), correlation_id="req_1")
    for number in range(3):
        append(connection, "test", {"words": f"secret {number}"}, stamp)
    old = json.dumps([4, "t", "old", "c", '{"words":"secret 3"}', entries_hash(connection)])
    connection.execute(
        "INSERT INTO control_ledger "
        "VALUES (4, 't', 'old', 'c', '{\"words\":\"secret 3\"}', ?, ?, NULL)",
        (entries_hash(connection), hashlib.sha256(old.replace(", ", ",").encode()).hexdigest()),
    )
    connection.execute(
        "UPDATE control_ledger_head SET number = 4, hash = (SELECT max(hash) FROM control_ledger "
        "WHERE number = 4)"
    )
    append(connection, "test", {}, stamp)
    assert verify(connection).ok

    erase(connection, [2, 4], "fgt_1", stamp)

    assert verify(connection).ok
    found = connection.execute("SELECT data FROM control_ledger ORDER BY number").fetchall()
    assert "secret 1" not in str(found)
    assert "secret 3" not in str(found)
    assert "secret 2" in str(found)


def entries_hash(connection: apsw.Connection) -> str:
    return entries(connection, after=2, limit=1)[0].hash


def test_t48_a_missing_tail_is_not_healed_by_going_on(ledger: apsw.Connection) -> None:
    ledger.execute("DELETE FROM control_ledger WHERE number > 5")

    append(ledger, "test", {}, Stamp(at=now(), correlation_id="req_next"))

    assert verify(ledger).broken_at == 6


def test_t48_a_row_that_was_put_in_is_named(ledger: apsw.Connection) -> None:
    ledger.execute("INSERT INTO control_ledger VALUES (10, 't', 'k', 'c', '{}', 'p', 'h', 'd')")

    assert verify(ledger).broken_at == ROWS + 1


@pytest.mark.parametrize(
    "statement", ["DELETE FROM control_ledger", "UPDATE control_ledger SET at = 'x'"]
)
def test_t48_rows_are_not_changed_by_accident(connection: apsw.Connection, statement: str) -> None:
    append(connection, "test", {}, Stamp(at=now(), correlation_id="req_1"))

    with pytest.raises(apsw.ConstraintError, match="append-only"):
        connection.execute(statement)


def test_a_lost_head_stops_the_ledger(ledger: apsw.Connection) -> None:
    ledger.execute("DELETE FROM control_ledger_head")

    with pytest.raises(LedgerDown):
        append(ledger, "test", {}, Stamp(at=now(), correlation_id="req_x"))
    assert not verify(ledger).ok


def test_a_damaged_row_is_an_error_that_names_it(ledger: apsw.Connection) -> None:
    ledger.execute("UPDATE control_ledger SET data = 'not json' WHERE number = 3")

    with pytest.raises(Internal, match="Row 3"):
        entries(ledger, after=0, limit=100)


async def test_what_is_recorded_is_read_back_in_order(control: SqliteControl) -> None:
    first = await control.record("effect", {"action": "act_1"})
    second = await control.record("effect", {"action": "act_2", "tiny": 1e-7})

    assert await control.ledger(after=first.number - 1) == (first, second)
    assert await control.ledger(after=first.number, limit=1) == (second,)
    assert second.previous_hash == first.hash
    assert (await control.verify_ledger()).ok


async def test_a_ledger_row_that_json_cannot_say_is_refused(control: SqliteControl) -> None:
    with pytest.raises(InvalidRequest):
        await control.record("effect", {"x": float("nan")})


def full(_: object) -> None:
    raise StorageFull("The disk is full.")


@pytest.fixture
def full_disk(db: Database, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Every write fails as it does on a full disk, until undone."""

    async def write(_: object) -> None:
        full(_)

    monkeypatch.setattr(db, "write", write)
    return monkeypatch


async def test_nothing_risky_is_allowed_while_the_ledger_is_down(
    control: SqliteControl, make_plan: MakePlan, full_disk: pytest.MonkeyPatch
) -> None:
    for tier in (1, 2, 3):
        with pytest.raises(LedgerDown):
            await control.judge(make_plan(tier=tier))
    with pytest.raises(LedgerDown):
        await control.record("effect", {})


async def test_reading_is_allowed_while_the_ledger_is_down(
    control: SqliteControl, make_plan: MakePlan, full_disk: pytest.MonkeyPatch
) -> None:
    decision = await control.judge(make_plan(tool="file.read", tier=0))

    assert decision.verdict == "approved"


async def test_control_is_unwell_until_the_ledger_can_be_written_again(
    control: SqliteControl, full_disk: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LedgerDown):
        await control.record("effect", {})
    with pytest.raises(LedgerDown, match="disk is full"):
        await control.probe()

    full_disk.undo()

    assert (await control.probe())["pending"] == 0


async def test_a_decision_that_is_not_recorded_did_not_happen(
    control: SqliteControl, db: Database, make_plan: MakePlan
) -> None:
    asked = await control.judge(make_plan())
    assert asked.approval_id
    await db.write(lambda c: c.execute("DELETE FROM control_ledger_head") and None)

    with pytest.raises(LedgerDown):
        await control.settle(asked.approval_id, approve=True, by="test")

    assert (await control.approval(asked.approval_id)).state == "pending"
