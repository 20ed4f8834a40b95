"""Tasks over the database, fired by APScheduler: one job for the next moment that matters.

What is due is put off to its next time in the same transaction that notes the run, so a crash
loses at most one run and never does one twice. However often a task was missed while Sonia was
off, it is done once.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.control import ledger
from sonia.control.journal import Journal
from sonia.control.tasks import english, schedule, store
from sonia.control.tasks.interface import Kind, NewTask, Run, Schedule, Task, TooManyTasks
from sonia.errors import Conflict, SoniaError, Unavailable
from sonia.events import Bus, ReminderDue, TaskFinished
from sonia.log import get_logger
from sonia.turn import ApprovalNeeded, ToolAnswered, TurnDone, TurnRequest, Turns, TurnStarted
from sonia.types import ApprovalId, new_id, now

if TYPE_CHECKING:
    import apsw

    from sonia.control.ledger import Stamp
    from sonia.db import Database

MOST_PLANNED = 1_000
AT_ONCE = 2  # unattended turns; one that waits for a person is not counted
LOOK_AGAIN_S = 30  # a clock that was set, or a machine that slept, is noticed after so long
RUN_S = 3600.0


class PlannedTasks:
    """Use `open_tasks`. What has no docstring is told in `Tasks`."""

    def __init__(
        self, journal: Journal, bus: Bus, zone: dt.tzinfo, paused: Callable[[], bool]
    ) -> None:
        self._journal = journal
        self._bus = bus
        self._zone = zone
        self._paused = paused
        self._turns: Turns | None = None
        self._free = asyncio.Semaphore(AT_ONCE)
        self._under_way: dict[str, asyncio.Task[Run]] = {}
        self._scheduler: Any = None
        self._log = get_logger("eva-os")

    # --- keeping -------------------------------------------------------------------------

    def draft(self, new: NewTask) -> Task:
        at = self._journal.now()
        when, text = self._read(new, at)
        return Task(
            id=new_id("task"),
            kind=new.kind,
            text=text,
            schedule=when,
            user_id=new.user_id,
            session_id=new.session_id,
            created_at=at,
            next_at=schedule.following(when, at, self._zone),
        )

    async def add(self, new: NewTask) -> Task:
        task = self.draft(new)

        def work(c: apsw.Connection, stamp: Stamp) -> None:
            if store.planned(c) >= MOST_PLANNED:
                raise TooManyTasks(f"{MOST_PLANNED} tasks are planned already. Remove some.")
            store.insert(c, task)
            ledger.append(c, "task.added", {"task_id": task.id, "kind": task.kind}, stamp)

        await self._write(work)
        await self._plan()
        return task

    def _read(self, new: NewTask, at: dt.datetime) -> tuple[Schedule, str]:
        match new.when:
            case None:
                when, text = english.split(new.text, at, self._zone)
            case Schedule():
                when, text = new.when, new.text
            case words:
                when, text = english.read(words, at, self._zone), new.text
        return schedule.check(when, at, self._zone), text

    async def task(self, task_id: str) -> Task:
        return await self._journal.read(partial(store.one, task_id=task_id))

    async def tasks(self, *, over: bool = False, kind: Kind | None = None) -> tuple[Task, ...]:
        return await self._journal.read(partial(store.every, over=over, kind=kind))

    async def remove(self, task_id: str) -> Task:
        def work(c: apsw.Connection, stamp: Stamp) -> Task:
            task = store.one(c, task_id)
            store.delete(c, task_id)
            ledger.append(c, "task.removed", {"task_id": task_id}, stamp)
            return task

        removed: Task = await self._write(work)
        if running := self._under_way.get(task_id):
            running.cancel()
            await asyncio.wait([running])
        await self._plan()
        return removed

    # --- doing ---------------------------------------------------------------------------

    async def run(self, task_id: str) -> Run:
        task = await self.task(task_id)
        if task_id in self._under_way:
            raise Conflict("This task is under way. Wait until it has ended.", task_id=task_id)
        return await asyncio.shield(self._begin(task, due=False))

    @asynccontextmanager
    async def serving(self, turns: Turns) -> AsyncIterator[None]:
        """See `Tasks.serving`."""
        self._turns = turns
        self._scheduler.add_job(
            self._when_due,
            "interval",
            seconds=LOOK_AGAIN_S,
            id="again",
            next_run_time=dt.datetime.now(dt.UTC),
        )
        try:
            yield
        finally:
            await self.stop()

    async def _when_due(self) -> None:
        """`_look`, for the scheduler, which would report being stopped as a failure."""
        with suppress(asyncio.CancelledError):
            await self._look()

    async def _look(self) -> None:
        """Begin what is due; while paused it stays due."""
        if self._paused():
            return
        for task in await self._journal.read(partial(store.due, at=self._journal.now())):
            if task.id not in self._under_way and self._turns is not None:
                self._begin(task, due=True)
        await self._plan()

    def _begin(self, task: Task, *, due: bool) -> asyncio.Task[Run]:
        running = asyncio.create_task(self._do(task, due=due), name=f"task {task.id}")
        self._under_way[task.id] = running
        running.add_done_callback(self._ended)
        return running

    def _ended(self, running: asyncio.Task[Run]) -> None:
        if not running.cancelled() and (error := running.exception()):
            self._log.error("task broke", exc_info=error)

    async def _do(self, task: Task, *, due: bool) -> Run:
        """One run; then the next."""
        try:
            return await self._noted(task, due=due)
        finally:
            self._under_way.pop(task.id, None)
            with suppress(SoniaError):  # it is looked for again anyway
                await self._plan()

    async def _noted(self, task: Task, *, due: bool) -> Run:
        """One run, noted before and after. Cancelling it is noted too."""
        from sonia.envelope import Exchange, enter  # brings in the web framework

        enter(Exchange(service="eva-os", operation="task"))
        at = self._journal.now()
        run = Run(id=new_id("run"), task_id=task.id, started_at=at, status="running")
        next_at = schedule.following(task.schedule, at, self._zone)

        def begin(c: apsw.Connection, stamp: Stamp) -> bool:
            there = store.begin(c, run, next_at, due=due)  # once, whoever looks at the same time
            if there:
                ledger.append(c, "task.started", {"task_id": task.id, "run_id": run.id}, stamp)
            return there

        if not await self._write(begin):
            return _failed(run, "It was removed, or is done already.")
        do = self._remind if task.kind == "reminder" else self._turn
        try:
            ended = await do(task, run)
        except asyncio.CancelledError:
            await _surely(self._keep(_failed(run, store.INTERRUPTED), ended=True))
            raise
        except TimeoutError:
            ended = _failed(run, f"It took longer than {RUN_S:g} s.")
        except SoniaError as error:
            ended = _failed(run, error.message)
        kept = await _surely(self._keep(ended, ended=True))
        await self._tell(task, kept)
        return kept

    async def _remind(self, task: Task, run: Run) -> Run:
        told = await self._bus.publish(
            ReminderDue(
                task_id=task.id,
                user_id=task.user_id,
                text=task.text,
                at=run.started_at,
                session_id=task.session_id,
            )
        )
        ways = ", ".join(str(way) for way in told if way)
        return msgspec.structs.replace(
            run, status="done", response=ways, session_id=task.session_id
        )

    async def _turn(self, task: Task, run: Run) -> Run:
        """A turn like any other, but that nobody is there: what asks waits for the answer."""
        if self._turns is None:
            raise Unavailable("Nothing is there yet that could do it. Try again.")
        request = TurnRequest(
            text=task.text,
            session_id=task.session_id,
            user_id=task.user_id,
            wait_for_approval=True,
            unattended=True,
            metadata={} if task.session_id else {"task_id": task.id},
        )
        loop = asyncio.get_running_loop()
        await self._free.acquire()
        held = True
        try:
            async with asyncio.timeout(RUN_S) as limit, self._turns.turn(request) as events:
                async for event in events:
                    if not held:  # it was answered
                        await self._free.acquire()
                        held = True
                        limit.reschedule(loop.time() + RUN_S)
                    run = await self._follow(task, run, event)
                    if run.status == "waiting":  # for a person, who may be asleep: others go on
                        self._free.release()
                        held = False
                        limit.reschedule(None)
        finally:
            if held:
                self._free.release()
        return run

    async def _follow(self, task: Task, run: Run, event: Any) -> Run:
        match event:
            case TurnStarted():
                return msgspec.structs.replace(run, session_id=event.session_id)
            case ApprovalNeeded():
                asked = (*run.approvals, ApprovalId(event.approval_id))
                waits = msgspec.structs.replace(run, status="waiting", approvals=asked)
                await self._keep(waits)
                await self._tell(task, waits, event.approval_id)
                return waits
            case ToolAnswered() if run.status == "waiting":
                return await self._keep(msgspec.structs.replace(run, status="running"))
            case TurnDone():
                return msgspec.structs.replace(run, status="done", response=event.data.response)
        return run

    async def _keep(self, run: Run, *, ended: bool = False) -> Run:
        if ended:
            run = msgspec.structs.replace(run, ended_at=self._journal.now())

        def work(c: apsw.Connection, stamp: Stamp) -> None:
            store.update(c, run)
            if ended:
                account = {"task_id": run.task_id, "run_id": run.id, "status": run.status}
                ledger.append(c, "task.finished", account, stamp)

        await self._write(work)
        return run

    async def _tell(self, task: Task, run: Run, approval_id: str | None = None) -> None:
        if task.kind == "reminder":
            return  # it was told already
        await self._bus.publish(
            TaskFinished(
                task_id=task.id,
                run_id=run.id,
                user_id=task.user_id,
                text=task.text,
                status=run.status,
                response=run.response,
                error=run.error,
                approval_id=approval_id,
                session_id=run.session_id,
            )
        )

    # --- the scheduler -------------------------------------------------------------------

    async def _write(self, work: Callable[[apsw.Connection, Stamp], Any]) -> Any:
        stamp = self._journal.stamp()
        return await self._journal.write(lambda c: work(c, stamp))

    async def _plan(self) -> None:
        """Look again when the next task is due that is not being done already."""
        coming = [task for task in await self.tasks() if task.id not in self._under_way]
        if self._turns is not None and coming:
            self._scheduler.add_job(
                self._when_due, "date", run_date=coming[0].next_at, id="next", replace_existing=True
            )

    async def start(self) -> None:
        """End what an earlier process left over; `open_tasks` calls it."""
        at = self._journal.now()
        await self._journal.write(partial(store.settle_left_over, at=at))
        self._scheduler = await asyncio.to_thread(_scheduler)
        self._scheduler.start()

    async def stop(self) -> None:
        """End what is under way, and begin nothing more."""
        self._turns = None
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        running = list(self._under_way.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def _scheduler() -> Any:
    """APScheduler's, which takes an eighth of a second to import."""
    from apscheduler.schedulers.asyncio import AsyncIOScheduler

    once = {"coalesce": True, "max_instances": 1, "misfire_grace_time": None}
    return AsyncIOScheduler(timezone=dt.UTC, job_defaults=once)


async def _surely(work: Coroutine[Any, Any, Run]) -> Run:
    """Do `work` to its end, and only then be cancelled."""
    doing = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await asyncio.wait([doing])
        raise


def _failed(run: Run, why: str) -> Run:
    return msgspec.structs.replace(run, status="failed", error=why)


@asynccontextmanager
async def open_tasks(
    db: Database,
    bus: Bus,
    *,
    clock: Callable[[], dt.datetime] = now,
    zone: dt.tzinfo | None = None,
    paused: Callable[[], bool] = lambda: False,
) -> AsyncIterator[PlannedTasks]:
    """Keep tasks in `db`; nothing is done before `serve`. Leaving stops what is under way.

    `zone` is where clocks in words and in cron are; this machine's, if it is not given. Nothing
    is begun while `paused` is true.
    """
    if zone is None:
        zone = await asyncio.to_thread(schedule.local_zone)
    tasks = PlannedTasks(Journal(db, clock), bus, zone, paused)
    await tasks.start()
    try:
        yield tasks
    finally:
        await tasks.stop()
