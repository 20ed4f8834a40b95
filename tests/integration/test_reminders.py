"""Reminders and timers as tools: they ask, are kept, and run no turn when they come."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sonia.config import EvaOs, OpenClaw
from sonia.control import Control, NewTask, Rule, TaskNotFound, Tasks, open_control, open_tasks
from sonia.control.tasks import NotATime
from sonia.db import open_database
from sonia.errors import ConfigurationError
from sonia.events import Bus
from sonia.tools import Call, GuardedTools, Outcome, open_tools
from tests.memory_given import MIGRATIONS


@dataclass
class Given:
    tools: GuardedTools
    control: Control
    tasks: Tasks

    async def call(self, name: str, user_id: str | None = None, **args: Any) -> Outcome:
        call = Call(tool_name=name, args=args, user_id=user_id, session_id="ses_1")
        return await self.tools.execute(call)


@pytest.fixture
async def given(tmp_path: Path) -> AsyncIterator[Given]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        db = await enter(open_database(tmp_path / "data" / "sonia.db", MIGRATIONS))
        control = await enter(open_control(EvaOs(), db))
        tasks = await enter(open_tasks(db, Bus()))
        config = OpenClaw(packs=("reminders",))
        opening = open_tools(config, control, db, tmp_path / "workspace", planned=tasks)
        yield Given(await enter(opening), control, tasks)


async def test_a_reminder_asks_with_its_moment_and_is_then_kept(given: Given) -> None:
    asked = await given.call("reminder.set", text="call Ana", when="every weekday at eight")
    await given.control.set_policy((Rule(tool="reminder.*", verdict="allow"),), by="operator")
    done = await given.call("reminder.set", text="call Ana", when="every weekday at eight")

    (task,) = await given.tasks.tasks()
    assert asked.status == "approval_required"
    assert "08:00" in (asked.preview or "")
    assert done.status == "executed"
    assert (done.verification or {})["ok"] is True
    assert (task.kind, task.text, task.session_id) == ("reminder", "call Ana", "ses_1")


async def test_a_time_that_is_none_is_told_before_anybody_is_asked(given: Given) -> None:
    with pytest.raises(NotATime, match="in 20 minutes"):
        await given.call("reminder.set", text="call Ana", when="soonish")

    assert await given.control.approvals() == ()


async def test_each_sees_and_cancels_only_their_own_reminders(given: Given) -> None:
    rules = (Rule(tool="*", verdict="allow"),)
    await given.control.set_policy(rules, by="operator")
    await given.call("timer.set", user_id="ana", seconds=600, text="eggs")

    anas = await given.call("reminder.list", user_id="ana")
    owners = await given.call("reminder.list")
    (reminder,) = (anas.result or {})["reminders"]
    refused = await given.call("reminder.cancel", reminder_id=reminder["reminder_id"])
    done = await given.call("reminder.cancel", user_id="ana", reminder_id=reminder["reminder_id"])

    assert reminder["text"] == "eggs"
    assert (owners.result or {})["reminders"] == []
    assert refused.status == "failed"
    assert done.status == "executed"
    assert await given.tasks.tasks() == ()


async def test_a_tool_cancels_no_task_that_is_a_turn(given: Given) -> None:
    task = await given.tasks.add(NewTask(text="read my notes", when="every day at 8"))

    with pytest.raises(TaskNotFound):
        await given.call("reminder.cancel", reminder_id=task.id)


async def test_the_pack_without_tasks_is_refused_at_the_start(tmp_path: Path) -> None:
    async with (
        open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
    ):
        opening = open_tools(OpenClaw(packs=("reminders",)), control, db, tmp_path / "workspace")
        with pytest.raises(ConfigurationError, match="reminders"):
            await opening.__aenter__()
