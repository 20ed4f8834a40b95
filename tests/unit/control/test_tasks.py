"""Tasks: kept, done when they are due, never twice; with the real turn where that is the point."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from sonia.config import ApiGateway, EvaOs, MemoryEngine, OpenClaw
from sonia.control import NewTask, Schedule, Task, TaskNotFound, open_control, open_tasks
from sonia.control.tasks.interface import TooManyTasks
from sonia.control.tasks.service import PlannedTasks
from sonia.db import Database, open_database
from sonia.errors import Conflict, Unavailable
from sonia.events import Bus, ReminderDue, TaskFinished
from sonia.gateway import open_turns
from sonia.memory import open_memory
from sonia.tools import open_tools
from sonia.turn import MemoryUse, Provenance, Reply, TurnDone, TurnEvent, TurnRequest, TurnStarted
from sonia.types import ToolCall, Usage
from tests.memory_given import MIGRATIONS
from tests.scripted import ScriptedRouter

ZONE = ZoneInfo("Europe/Berlin")


class Echo:
    """A turn that says what it was told, once `go` is set; an `error` instead if there is one."""

    def __init__(self) -> None:
        self.requests: list[TurnRequest] = []
        self.error: Exception | None = None
        self.go, self.begun, self.left = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.go.set()

    @asynccontextmanager
    async def turn(self, request: TurnRequest) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        self.requests.append(request)
        self.begun.set()
        try:
            yield self._events(request)
        finally:
            self.left.set()

    async def _events(self, request: TurnRequest) -> AsyncIterator[TurnEvent]:
        yield TurnStarted(turn_id="turn_1", session_id="ses_1")
        await self.go.wait()
        if self.error:
            raise self.error
        reply = Reply(
            response=f"Done: {request.text}",
            session_id="ses_1",
            turn_id="turn_1",
            model="m",
            provider="p",
            usage=Usage(),
            cost_usd=0.0,
            memory=MemoryUse(),
            tool_calls=(),
            provenance=Provenance(),
        )
        yield TurnDone(turn_id="turn_1", data=reply)


class Heard:
    """What was told on the bus; `wait` for the next of it."""

    def __init__(self, bus: Bus) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        for kind in (TaskFinished, ReminderDue):
            bus.subscribe(kind, self._hear)

    async def _hear(self, event: Any) -> str:
        self.events.put_nowait(event)
        return "said"

    async def wait(self) -> Any:
        return await asyncio.wait_for(self.events.get(), 60)


@pytest.fixture
def bus() -> Bus:
    return Bus()


@pytest.fixture
def heard(bus: Bus) -> Heard:
    return Heard(bus)


@pytest.fixture
async def tasks(db: Database, bus: Bus, clock: Any) -> AsyncIterator[PlannedTasks]:
    async with open_tasks(db, bus, clock=clock, zone=ZONE) as opened:
        yield opened


async def test_what_is_asked_for_in_words_is_planned(tasks: PlannedTasks) -> None:
    task = await tasks.add(NewTask(text="Every weekday at eight, read me my notes"))

    assert task.text == "read me my notes"
    assert task.schedule == Schedule(cron="0 8 * * mon-fri")
    assert task.next_at == dt.datetime(2026, 3, 2, 7, 0, tzinfo=dt.UTC)
    assert await tasks.tasks() == (task,)


async def test_what_is_due_is_done_by_a_turn_and_kept(
    tasks: PlannedTasks, clock: Any, heard: Heard
) -> None:
    turns = Echo()
    task = await tasks.add(NewTask(text="read my notes", when="in 5 minutes", user_id="ana"))
    clock.forward(301)

    async with tasks.serving(turns):
        told = await heard.wait()

    kept = await tasks.task(task.id)
    assert (told.status, told.response, told.user_id) == ("done", "Done: read my notes", "ana")
    assert turns.requests[0].user_id == "ana"
    assert kept.next_at is None
    assert [(run.status, run.response) for run in kept.runs] == [("done", "Done: read my notes")]
    assert await tasks.tasks() == ()
    assert [each.id for each in await tasks.tasks(over=True)] == [task.id]


async def test_what_was_missed_many_times_is_done_once(
    tasks: PlannedTasks, clock: Any, heard: Heard
) -> None:
    task = await tasks.add(NewTask(text="read my notes", when="every hour"))
    clock.forward(26 * 3600)

    async with tasks.serving(Echo()):
        await heard.wait()

    kept = await tasks.task(task.id)
    assert len(kept.runs) == 1
    assert kept.next_at == clock() + dt.timedelta(hours=1)
    assert heard.events.empty()


async def test_the_scheduler_wakes_for_what_is_added_while_it_runs(
    db: Database, bus: Bus, heard: Heard
) -> None:
    async with open_tasks(db, bus) as tasks, tasks.serving(Echo()):
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.5)
        await tasks.add(NewTask(text="now", when=Schedule(at=soon)))

        told = await heard.wait()

    assert told.response == "Done: now"


async def test_two_who_look_at_once_do_it_once(
    tasks: PlannedTasks, clock: Any, heard: Heard
) -> None:
    task = await tasks.add(NewTask(text="read my notes", when="in 5 minutes"))
    clock.forward(301)
    tasks._turns = Echo()

    first, second = await asyncio.gather(tasks._begin(task, due=True), tasks._begin(task, due=True))

    assert sorted([first.status, second.status]) == ["done", "failed"]
    assert len((await tasks.task(task.id)).runs) == 1


async def test_a_reminder_is_told_and_runs_no_turn(
    tasks: PlannedTasks, clock: Any, heard: Heard
) -> None:
    turns = Echo()
    new = NewTask(text="the oven", when="in 5 minutes", kind="reminder", session_id="ses_7")
    task = await tasks.add(new)

    async with tasks.serving(turns):
        run = await tasks.run(task.id)

    told = await heard.wait()
    assert (told.text, told.session_id, told.at) == ("the oven", "ses_7", clock())
    assert (run.status, run.response) == ("done", "said")
    assert turns.requests == []


async def test_a_failed_run_says_why_and_the_next_one_comes(
    tasks: PlannedTasks, heard: Heard
) -> None:
    turns = Echo()
    turns.error = Unavailable("No model is there.")
    task = await tasks.add(NewTask(text="read my notes", when="every day at 8"))

    async with tasks.serving(turns):
        run = await tasks.run(task.id)

    kept = await tasks.task(task.id)
    assert (run.status, run.error) == ("failed", "No model is there.")
    assert kept.runs == (run,)
    assert kept.next_at == task.next_at


async def test_a_task_under_way_is_not_begun_again_and_stops_when_removed(
    tasks: PlannedTasks,
) -> None:
    turns = Echo()
    turns.go.clear()
    task = await tasks.add(NewTask(text="read my notes", when="every day at 8"))

    async with tasks.serving(turns):
        running = asyncio.ensure_future(tasks.run(task.id))
        await turns.begun.wait()
        with pytest.raises(Conflict, match="under way"):
            await tasks.run(task.id)
        await tasks.remove(task.id)

    assert turns.left.is_set()
    with pytest.raises(asyncio.CancelledError):
        await running
    with pytest.raises(TaskNotFound):
        await tasks.task(task.id)


async def test_what_a_crash_interrupted_is_not_done_again(
    db: Database, bus: Bus, clock: Any, heard: Heard
) -> None:
    turns = Echo()
    turns.go.clear()
    async with open_tasks(db, bus, clock=clock, zone=ZONE) as tasks:
        task = await tasks.add(NewTask(text="send it", when="in 5 minutes"))
        clock.forward(301)
        async with tasks.serving(turns):
            await turns.begun.wait()
    await db.write(_forget_the_end)  # as if the process had died before it could say so
    async with open_tasks(db, bus, clock=clock, zone=ZONE) as tasks, tasks.serving(Echo()):
        await tasks._look()
        kept = await tasks.task(task.id)

    assert [run.status for run in kept.runs] == ["failed"]
    assert "stopped" in (kept.runs[0].error or "")
    assert kept.next_at is None


def _forget_the_end(c: Any) -> None:
    c.execute("UPDATE control_task_runs SET status = 'running', ended_at = NULL, error = NULL")


async def test_there_is_an_end_to_how_many_are_planned(
    tasks: PlannedTasks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonia.control.tasks.service.MOST_PLANNED", 1)
    await tasks.add(NewTask(text="one", when="every day at 8"))

    with pytest.raises(TooManyTasks):
        await tasks.add(NewTask(text="two", when="every day at 8"))


async def test_unattended_work_asks_like_attended_work_and_goes_on_when_answered(
    tmp_path: Path, bus: Bus, heard: Heard
) -> None:
    """The real turn, tools and control: only the model's words are scripted."""
    write = ToolCall(id="c1", name="file.write", arguments={"path": "a.txt", "content": "hi"})
    router = ScriptedRouter([write], ["Written."])
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        db = await enter(open_database(tmp_path / "data" / "sonia.db", MIGRATIONS))
        control = await enter(open_control(EvaOs(), db))
        tasks = await enter(open_tasks(db, bus))
        text = tmp_path / "data" / "text"
        memory = await enter(open_memory(MemoryEngine(), db, router.embeddings, bus, text))
        tools = await enter(open_tools(OpenClaw(), control, db, tmp_path / "workspace"))
        turns = await enter(
            open_turns(ApiGateway(), router=router, memory=memory, tools=tools, bus=bus)
        )
        await enter(tasks.serving(turns))
        task = await tasks.add(NewTask(text="write hi into a.txt", when="every day at 8"))
        running = asyncio.ensure_future(tasks.run(task.id))

        waits = await heard.wait()
        asked = (await control.approvals("pending"))[0]
        before = (tmp_path / "workspace" / "a.txt").exists()
        meanwhile = (await tasks.task(task.id)).runs[0]
        await control.settle(asked.id, approve=True, by="operator")
        run = await running

    assert (waits.status, waits.approval_id) == ("waiting", asked.id)
    assert (meanwhile.status, meanwhile.approvals) == ("waiting", (asked.id,))
    assert asked.expires_at - asked.created_at == dt.timedelta(hours=12)
    assert before is False
    assert (run.status, run.response, run.approvals) == ("done", "Written.", (asked.id,))
    assert (tmp_path / "workspace" / "a.txt").read_text() == "hi"


async def test_what_was_planned_is_on_the_record_without_its_words(
    db: Database, clock: Any, bus: Bus, tasks: PlannedTasks
) -> None:
    task: Task = await tasks.add(NewTask(text="a secret plan", when="every day at 8"))
    await tasks.remove(task.id)

    async with open_control(EvaOs(), db, clock=clock) as control:
        rows = await control.ledger()
        check = await control.verify_ledger()

    assert [row.kind for row in rows] == ["task.added", "task.removed"]
    assert "secret" not in str(rows)
    assert check.ok
