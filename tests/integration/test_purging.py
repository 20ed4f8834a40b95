"""What was forgotten leaves the backups too, when that is asked for; until then it is told of."""

from __future__ import annotations

import asyncio
import datetime as dt
from pathlib import Path

import pytest

from sonia import app, backups, purging
from sonia.backups import Backup
from sonia.memory import Forget, NewMemory, Receipt
from sonia.purging import Purged, held
from sonia.types import now
from tests.integration.test_backups import contents, make, restore, word
from tests.memory_given import MIGRATIONS, opened

DAY_S = 86_400.0


async def purge(data: Path) -> Purged:
    return await asyncio.to_thread(
        purging.purge, data / "backups", data / "sonia.db", MIGRATIONS, app.CHECKERS, app.clean
    )


async def two_backups_then_one_forgotten(data: Path) -> tuple[list[Backup], Receipt]:
    async with opened(data) as memory:
        for n in range(3):
            await memory.store(NewMemory(type="fact", content=word(n)))
        made = [await make(data), await make(data)]
        receipt = await memory.erase(Forget(entity="Lark 1"), wait_s=60)
    assert receipt.state == "done"
    return made, receipt


def holding(data: Path, receipt: Receipt) -> list[str]:
    found = backups.listed(data / "backups")
    return [item.name for item in held(found, receipt.done_at, keep=2, every_s=DAY_S)]


def files_with(data: Path, words: bytes) -> list[str]:
    return [path.name for path in data.rglob("*") if path.is_file() and words in path.read_bytes()]


async def test_backups_that_hold_it_are_told_and_written_anew_without_it(tmp_path: Path) -> None:
    made, receipt = await two_backups_then_one_forgotten(tmp_path)
    before = holding(tmp_path, receipt)
    later = await make(tmp_path)

    done = await purge(tmp_path)
    again = await purge(tmp_path)

    assert sorted(before) == sorted(item.name for item in made)
    assert sorted(done.rewritten) == sorted(before)
    assert (again, done.left) == (Purged(), {})
    assert files_with(tmp_path, b"Lark 1 sings") == []
    assert holding(tmp_path, receipt) == []
    listed = backups.listed(tmp_path / "backups")
    assert {item.name for item in listed} == {later.name, *done.rewritten.values()}
    assert [item.created_at for item in listed] == sorted(
        (item.created_at for item in (*made, later)), reverse=True
    )
    for item in listed:
        assert backups.verify(tmp_path / "backups" / item.name, app.CHECKERS).ok
    await restore(tmp_path / "backups" / listed[-1].name, tmp_path)
    assert await contents(tmp_path) == {word(0), word(2)}


async def test_one_that_is_cut_off_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, receipt = await two_backups_then_one_forgotten(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as broken:
        broken.setattr(backups, "remove", full)
        with pytest.raises(backups.StorageFull, match="as it was"):
            await purge(tmp_path)
    assert len(backups.listed(tmp_path / "backups")) == 3

    await purge(tmp_path)

    assert files_with(tmp_path, b"Lark 1 sings") == []
    assert holding(tmp_path, receipt) == []


async def test_a_damaged_backup_stays_as_it_is_and_is_told(tmp_path: Path) -> None:
    made, receipt = await two_backups_then_one_forgotten(tmp_path)
    path = tmp_path / "backups" / made[0].name
    path.write_bytes(path.read_bytes()[:8192])

    done = await purge(tmp_path)

    assert list(done.left) == [made[0].name]
    assert list(done.rewritten) == [made[1].name]
    assert holding(tmp_path, receipt) == [made[0].name]


async def test_a_backup_makes_room_when_enough_newer_ones_are_made() -> None:
    at = now()

    def of(age: int) -> Backup:
        created = (at - dt.timedelta(days=age)).isoformat()
        return Backup(
            name=f"{age}", created_at=created, bytes=1, sha256="", version="", schema="", rows={}
        )

    found = [of(0), of(1), of(2)]

    daily = held(found, None, keep=3, every_s=DAY_S)
    never = held(found, None, keep=3, every_s=0)

    days = [item.until - at for item in daily if item.until]
    assert days == [dt.timedelta(days=left) for left in (3, 2, 1)]
    assert [item.until for item in never] == [None] * 3
