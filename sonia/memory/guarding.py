"""Guarding what is kept: missing digests are computed, damage is listed and told, all is checked.

It works behind: a start does not wait for it, and it rests most of the time.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import TypeVar

import apsw

from sonia.db import Database, connect
from sonia.errors import SoniaError
from sonia.integrity import Stopped, check_file
from sonia.log import get_logger
from sonia.memory import bookkeeping, digests
from sonia.memory.columns import micros, moment
from sonia.memory.parts import Clock
from sonia.types import Damage, Integrity

T = TypeVar("T")

CHECK_AFTER_S = 10.0  # a start has other things to do first
CHECK_EVERY_S = 7 * 24 * 3600.0  # a small file is checked at each start besides
SMALL_BYTES = 256 * 1024 * 1024
LOOK_EVERY_S = 60.0
DUTY = 0.25  # the share of the time that checking behind may take
REST_S = 0.05
RETRY_S = 5.0
CHECKED_AT = "checked_at"
OFFER = "sonia backup list, sonia backup restore NAME"


class Guard:
    """Use `run`; `check` may be called beside it."""

    def __init__(self, db: Database, clock: Clock, check_after_s: float) -> None:
        self._db = db
        self._clock = clock
        self._check_after_s = check_after_s
        self._noticed: asyncio.Queue[tuple[Damage, ...]] = asyncio.Queue()
        self._checking = asyncio.Lock()
        self._last: Integrity | None = None

    @property
    def faults(self) -> tuple[str, ...]:
        """What SQLite found wrong with the file when it was last checked."""
        return self._last.faults if self._last else ()

    async def run(self) -> None:
        """Guard until cancelled."""
        unwatch = self._db.watch(self._noticed.put_nowait)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list_what_is_noticed())
                group.create_task(self._work_behind())
        finally:
            unwatch()

    async def check(self, *, duty: float = 1.0) -> Integrity:
        """Read the whole file, compare every row with its digest, list what is damaged."""
        async with self._checking:
            found = await self._read_everything(duty)
            self._last = found
            _tell(await self._recorded(found))
            if found.faults:
                get_logger("memory-engine").error(
                    "the database file is damaged", faults=list(found.faults), offer=OFFER
                )
            return found

    async def _recorded(self, found: Integrity) -> Sequence[Damage]:
        """What is newly on the list; all of it where a full or broken disk keeps no list."""
        try:
            work = partial(_record, found=found, at_micros=micros(self._clock()))
            return await self._db.write(work)
        except SoniaError as error:
            get_logger("memory-engine").warning("a check is not on record", reason=error.message)
            return found.damaged

    async def _read_everything(self, duty: float) -> Integrity:
        stop = threading.Event()
        opened = partial(connect, read_only=True)
        read = partial(check_file, self._db.path, opened, (digests.damaged,), stop=stop, duty=duty)
        try:
            return await asyncio.to_thread(read)
        finally:
            stop.set()

    async def _work_behind(self) -> None:
        await self._trying(self._complete)
        await asyncio.sleep(self._check_after_s)
        if self._db.path.stat().st_size <= SMALL_BYTES:
            await self._trying(partial(self.check, duty=DUTY))
        while True:
            if await self._trying(self._is_overdue):
                await self._trying(partial(self.check, duty=DUTY))
            await asyncio.sleep(LOOK_EVERY_S)
            await self._trying(self._complete)

    async def _complete(self) -> None:
        """Rows from before there were digests, and rows that were erased, get theirs."""
        while await self._db.read(digests.incomplete):
            await self._db.write(digests.complete)
            await asyncio.sleep(REST_S)

    async def _is_overdue(self) -> bool:
        noted = await self._db.read(partial(bookkeeping.derived, name=CHECKED_AT))
        if noted is None:
            return True
        return (self._clock() - moment(int(noted))).total_seconds() > CHECK_EVERY_S

    async def _list_what_is_noticed(self) -> None:
        while True:
            found = await self._noticed.get()
            listing = partial(digests.quarantine, found=found, at_micros=micros(self._clock()))
            _tell(await self._trying(partial(self._db.write, listing)) or ())

    async def _trying(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """Do it, and again later while it can't be done (a full disk)."""
        while True:
            try:
                return await work()
            except Stopped:
                return None
            except SoniaError as error:
                get_logger("memory-engine").warning("guarding waits", reason=error.message)
                await asyncio.sleep(RETRY_S)


def _record(c: apsw.Connection, found: Integrity, at_micros: int) -> list[Damage]:
    bookkeeping.note_derived(c, CHECKED_AT, str(at_micros))
    if found.damaged_rows > len(found.damaged):
        return digests.quarantine(c, found.damaged, at_micros)
    return digests.replace_list(c, found.damaged, at_micros)


def _tell(new: Iterable[Damage]) -> None:
    for item in new:
        get_logger("memory-engine").error(
            "a row is damaged and is not served",
            table=item.place,
            number=item.number,
            version=item.version,
            why=item.why,
            offer=OFFER,
        )
