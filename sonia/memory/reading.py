"""Turns that a model has yet to read for memories: a queue that outlives the process.

They are read when nobody has spoken for a while, one at a time. Whoever speaks comes first: what
is being read then is put off, and not counted as a try. What fails is tried again later, and
after a few tries left to what the rules kept of it.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

import apsw

from sonia.config import Extraction
from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.memory import merging
from sonia.memory.columns import from_json, micros, moment
from sonia.memory.extracting import Extracted, extracted, memory_of
from sonia.memory.interface import Model
from sonia.memory.parts import Parts
from sonia.types import Value

T = TypeVar("T")
RETRY_FIRST = dt.timedelta(minutes=1)
LOOK_S = 60.0


class Unread(Value):
    """A turn's words and whose they are; `tries` failed so far."""

    turn_id: str
    text: str
    user_id: str
    session_id: str | None
    at: dt.datetime
    tries: int


class Reader:
    """Works through the queue until cancelled."""

    def __init__(self, parts: Parts, model: Model) -> None:
        self._parts = parts
        self.model = model
        self._spoken_at = float("-inf")
        self._disturbs: set[asyncio.Event] = set()
        self._settings: Extraction = parts.config.extraction
        self._spoken = asyncio.Event()
        self.dropped = 0
        self.trouble: str | None = None

    def spoken(self) -> None:
        """Somebody is speaking, or a turn was queued."""
        self._spoken_at = asyncio.get_running_loop().time()
        self._spoken.set()
        for disturbed in self._disturbs:
            disturbed.set()

    async def undisturbed(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T | None:
        """Do it when nobody has spoken for `idle_s`; leave it, for nothing, when somebody does."""
        await self._quiet_for(self._settings.idle_s)
        disturbed = asyncio.Event()
        self._disturbs.add(disturbed)
        working = asyncio.create_task(work())
        speaking = asyncio.create_task(disturbed.wait())
        try:
            await asyncio.wait((working, speaking), return_when=asyncio.FIRST_COMPLETED)
            return working.result() if working.done() else None
        finally:
            self._disturbs.remove(disturbed)
            for task in (working, speaking):
                task.cancel()
            await asyncio.gather(working, speaking, return_exceptions=True)

    async def _quiet_for(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        left_s = self._spoken_at + seconds - loop.time()
        while left_s > 0:
            await asyncio.sleep(left_s)
            left_s = self._spoken_at + seconds - loop.time()

    async def run(self) -> None:
        """Read whatever is due whenever it is quiet."""
        await self._sleep(self._settings.idle_s)  # the start goes first
        while True:
            self._spoken.clear()
            await self._quiet_for(self._settings.idle_s)
            try:
                went_on = await self._step()
            except SoniaError as error:  # of the database: the turn stays in the queue
                self.trouble, went_on = error.message, False
            if not went_on:
                await self._sleep(LOOK_S)

    async def _step(self) -> bool:
        at = self._parts.clock()
        unread = await self._parts.db.read(partial(next_unread, at=at))
        if unread is None:
            return False
        if unread.text:
            await self._read(unread)
        else:  # it was forgotten
            await self._parts.db.write(partial(drop, turn_id=unread.turn_id))
        return True

    async def account(self) -> dict[str, object]:
        """Turns that wait, those left to the rules since the start, the last failure."""
        waiting = await self._parts.db.read(count)
        return {"waiting": waiting, "dropped": self.dropped, "trouble": self.trouble}

    async def _sleep(self, seconds: float) -> None:
        """Until then, or until somebody speaks."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._spoken.wait()

    async def _read(self, unread: Unread) -> None:
        deadline_s = self._settings.deadline_s
        try:
            found = await self.undisturbed(lambda: extracted(self.model, unread.text, deadline_s))
        except SoniaError as error:
            await self._failed(unread, error)
            return
        if found is None:
            return
        self.trouble = None
        cause = self._parts.note("memory.superseded").correlation_id
        write = partial(keep, unread=unread, found=found, at=self._parts.clock(), cause=cause)
        if await self._parts.db.write(write):
            self._parts.wake()

    async def _failed(self, unread: Unread, error: SoniaError) -> None:
        tries = unread.tries + 1
        given_up = tries >= self._settings.tries
        if given_up:
            await self._parts.db.write(partial(drop, turn_id=unread.turn_id))
            self.dropped += 1
        else:
            at = self._parts.clock() + RETRY_FIRST * 4**unread.tries
            await self._parts.db.write(partial(put_off, turn_id=unread.turn_id, tries=tries, at=at))
        self.trouble = error.message
        get_logger("memory-engine").warning(
            "turn left to the rules" if given_up else "turn not read yet",
            turn_id=unread.turn_id,
            reason=error.message,
        )


def queue(c: apsw.Connection, turn_id: str, at: dt.datetime) -> None:
    """In the transaction that writes the turn."""
    c.execute(
        "INSERT OR IGNORE INTO memory_unextracted (turn_id, next_at) VALUES (?, ?)",
        (turn_id, micros(at)),
    )


def next_unread(c: apsw.Connection, at: dt.datetime) -> Unread | None:
    """The first that is due; without text when what was said is forgotten."""
    row = c.execute(
        "SELECT turn_id, tries FROM memory_unextracted WHERE next_at <= ? "
        "ORDER BY next_at, turn_id LIMIT 1",
        (micros(at),),
    ).fetchone()
    if row is None:
        return None
    turn_id, tries = cast("tuple[str, int]", row)
    said = c.execute(
        "SELECT data, user_id, session_id, at FROM memory_events "
        "WHERE turn_id = ? AND kind = 'turn.user' ORDER BY number LIMIT 1",
        (turn_id,),
    ).fetchone()
    data, user_id, session_id, spoken_at = cast(Any, said) or ("{}", "", None, micros(at))
    return Unread(
        turn_id=turn_id,
        text=str(from_json(data).get("content", "")),
        user_id=user_id,
        session_id=session_id,
        at=moment(spoken_at),
        tries=tries,
    )


def keep(
    c: apsw.Connection, unread: Unread, found: Sequence[Extracted], at: dt.datetime, cause: str
) -> int:
    """Write what was found, unless it is known or the turn was forgotten meanwhile."""
    still = next_unread(c, at)
    drop(c, unread.turn_id)
    if still is None or still.turn_id != unread.turn_id or still.text != unread.text:
        return 0
    news = [
        memory_of(one, unread.text, unread.at, unread.turn_id, unread.user_id, unread.session_id)
        for one in found
    ]
    taken = [merging.take_up(c, new, at, unread.turn_id) for new in news]
    made = [item for item in taken if item is not None]
    merging.note_superseded(c, [old for item in made for old in item.replaced], at, cause)
    return len(made)


def put_off(c: apsw.Connection, turn_id: str, tries: int, at: dt.datetime) -> None:
    """Try again not before `at`."""
    c.execute(
        "UPDATE memory_unextracted SET tries = ?, next_at = ? WHERE turn_id = ?",
        (tries, micros(at), turn_id),
    )


def drop(c: apsw.Connection, turn_id: str) -> None:
    """It needs no reading any more."""
    c.execute("DELETE FROM memory_unextracted WHERE turn_id = ?", (turn_id,))


def count(c: apsw.Connection) -> int:
    """How many wait."""
    return cast(int, c.execute("SELECT count(*) FROM memory_unextracted").fetchall()[0][0])
