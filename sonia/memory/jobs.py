"""What memory does by itself, by the clock: one job at a time, each seen in `/memory/jobs`.

When a job is due is counted from when it last ended, as the table says: a restart starts no
count anew, and what came due while Sonia did not run, or the machine slept, is done once, soon
after. APScheduler holds the schedule of a running process; it is loaded behind the start.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, cast

import apsw
import msgspec

from sonia.db import Database
from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.memory.columns import maybe_moment, micros, moment
from sonia.memory.interface import JobNotFound, JobStatus

SETTLE = dt.timedelta(seconds=30)  # what is overdue lets the start, and the person, go first
LOOK_S = 60.0  # how often the clock on the wall is looked at: a machine may have slept

Counts = dict[str, int]
Work = Callable[[], Awaitable[Counts]]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """Something to do again and again. `work` returns what it did, counted."""

    name: str
    about: str
    every: dt.timedelta
    work: Work


class Jobs:
    """Runs them: never two at once, whoever asked."""

    def __init__(self, db: Database, clock: Callable[[], dt.datetime], jobs: Sequence[Job]) -> None:
        self._db = db
        self._clock = clock
        self._jobs = {job.name: job for job in jobs}
        self._turn = asyncio.Lock()
        self._running: dict[str, asyncio.Task[Any] | None] = {}

    async def status(self) -> tuple[JobStatus, ...]:
        """Every job, in the order in which they are listed."""
        rows = await self._db.read(_rows)
        return tuple(self._status(job, rows.get(job.name)) for job in self._jobs.values())

    async def run(self, name: str) -> JobStatus:
        """Do it now, after whatever is being done, and say how it went. Raises `JobNotFound`.

        A failure is kept with the job and logged; the next time it is tried again.
        """
        if name not in self._jobs:
            raise JobNotFound("No job has this name.", name=name, known=sorted(self._jobs))
        async with self._turn:
            self._running[name] = asyncio.current_task()
            try:
                await self._run(self._jobs[name])
            finally:
                del self._running[name]
        return next(status for status in await self.status() if status.name == name)

    async def follow(self) -> None:
        """Run each job when it is due, until cancelled; then wait for the one that is running."""
        await self._db.write(partial(_seen, names=list(self._jobs), at=self._clock()))
        scheduler = await asyncio.to_thread(_scheduler)
        for status in await self.status():
            first = max(status.next_at, self._clock() + SETTLE)
            scheduler.add_job(
                self._when_due,
                "interval",
                args=[status.name],
                id=status.name,
                seconds=status.every_s,
                start_date=first,
                next_run_time=first,
            )
        scheduler.start()
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                scheduler.wakeup()
        finally:
            running = [task for task in self._running.values() if task is not None]
            scheduler.shutdown(wait=False)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _when_due(self, name: str) -> None:
        """`run`, for the scheduler, which would report being stopped as a failure."""
        with suppress(asyncio.CancelledError):
            await self.run(name)

    async def _run(self, job: Job) -> None:
        await self._db.write(partial(_started, name=job.name, at=self._clock()))
        failure: str | None = None
        counts: Counts = {}
        try:
            counts = await job.work()
        except SoniaError as error:
            failure = error.message
            get_logger("memory-engine").warning("job failed", job=job.name, reason=failure)
        ended = partial(_ended, name=job.name, at=self._clock(), counts=counts, failure=failure)
        await self._db.write(ended)

    def _status(self, job: Job, row: _Row | None) -> JobStatus:
        row = row or _Row(seen_at=self._clock())
        return JobStatus(
            name=job.name,
            about=job.about,
            every_s=job.every.total_seconds(),
            next_at=due(row.seen_at, row.started_at, row.ended_at, job.every),
            running=job.name in self._running,
            started_at=row.started_at,
            ended_at=row.ended_at,
            outcome=row.outcome,
            failure=row.failure,
            failures=row.failures,
        )


def due(
    seen_at: dt.datetime,
    started_at: dt.datetime | None,
    ended_at: dt.datetime | None,
    every: dt.timedelta,
) -> dt.datetime:
    """When it should run next: at once what was begun and never ended."""
    if started_at is not None and (ended_at is None or ended_at < started_at):
        return started_at
    return (ended_at or seen_at) + every


def _scheduler() -> Any:
    """APScheduler's, which takes an eighth of a second to import."""
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    once = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    return AsyncIOScheduler(timezone=dt.UTC, job_defaults=once)


class _Row(msgspec.Struct, frozen=True, kw_only=True):
    seen_at: dt.datetime
    started_at: dt.datetime | None = None
    ended_at: dt.datetime | None = None
    outcome: Counts = {}
    failure: str | None = None
    failures: int = 0


def _rows(c: apsw.Connection) -> dict[str, _Row]:
    found = c.execute(
        "SELECT name, seen_at, started_at, ended_at, outcome, failure, failures FROM memory_jobs"
    )
    return {
        cast(str, name): _Row(
            seen_at=moment(seen_at),
            started_at=maybe_moment(started_at),
            ended_at=maybe_moment(ended_at),
            outcome=json.loads(outcome),
            failure=failure,
            failures=failures,
        )
        for name, seen_at, started_at, ended_at, outcome, failure, failures in cast(Any, found)
    }


def _seen(c: apsw.Connection, names: Sequence[str], at: dt.datetime) -> None:
    c.executemany(
        "INSERT OR IGNORE INTO memory_jobs (name, seen_at) VALUES (?, ?)",
        [(name, micros(at)) for name in names],
    )


def _started(c: apsw.Connection, name: str, at: dt.datetime) -> None:
    _seen(c, [name], at)
    c.execute("UPDATE memory_jobs SET started_at = ? WHERE name = ?", (micros(at), name))


def _ended(
    c: apsw.Connection, name: str, at: dt.datetime, counts: Counts, failure: str | None
) -> None:
    c.execute(
        "UPDATE memory_jobs SET ended_at = ?, outcome = ?, failure = ?, "
        "failures = iif(? IS NULL, 0, failures + 1) WHERE name = ?",
        (micros(at), json.dumps(counts), failure, failure, name),
    )
