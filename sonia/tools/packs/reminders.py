"""Reminders and timers by tool: control's tasks that are told and run no turn.

So whatever words they were made of, when they come they are only read to the person.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import NewTask, Schedule, Task, TaskNotFound, Tasks, Tier
from sonia.tools.tool import Arguments, Grant, Intent, Tool
from sonia.types import DEFAULT_USER, now
from sonia.whose import whose

MAX_TIMER_S = 7 * 24 * 3600
Words = Annotated[str, Meta(min_length=1, max_length=1_000, description="What to say then.")]


class ReminderSetArguments(Arguments):
    """What, and when."""

    text: Words
    when: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=200,
            description="Like: tomorrow at 9, in 20 minutes, every weekday at eight.",
        ),
    ]


class ReminderSet(Tool[ReminderSetArguments]):
    """Kept in the database, so a restart does not lose it."""

    name: ClassVar = "reminder.set"
    description: ClassVar = "Remind the user of something at a time, once or again and again."
    arguments: ClassVar = ReminderSetArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("keeps a reminder",)

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def plan(self, args: ReminderSetArguments) -> Intent:
        draft = self._tasks.draft(NewTask(text=args.text, when=args.when, kind="reminder"))
        return Intent(preview=f"Remind you {_when(draft)} of:\n\n{args.text}")

    async def run(self, args: ReminderSetArguments, grant: Grant) -> dict[str, Any]:
        new = NewTask(
            text=args.text,
            when=args.when,
            kind="reminder",
            user_id=_user(grant),
            session_id=grant.asked.session_id,
        )
        return _told(await self._tasks.add(new))

    async def verify(self, args: ReminderSetArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": (await self._tasks.task(result["reminder_id"])).text == args.text}


class TimerSetArguments(Arguments):
    """How long, and what for."""

    seconds: Annotated[int, Meta(ge=1, le=MAX_TIMER_S)]
    text: Words = "The time is up."


class TimerSet(Tool[TimerSetArguments]):
    """A reminder in so many seconds."""

    name: ClassVar = "timer.set"
    description: ClassVar = "Set a timer: tell the user when so many seconds have passed."
    arguments: ClassVar = TimerSetArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("keeps a timer",)

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def plan(self, args: TimerSetArguments) -> Intent:
        return Intent(preview=f"Tell you in {dt.timedelta(seconds=args.seconds)}:\n\n{args.text}")

    async def run(self, args: TimerSetArguments, grant: Grant) -> dict[str, Any]:
        at = now() + dt.timedelta(seconds=args.seconds)
        new = NewTask(
            text=args.text,
            when=Schedule(at=at),
            kind="reminder",
            user_id=_user(grant),
            session_id=grant.asked.session_id,
        )
        return _told(await self._tasks.add(new))


class ReminderListArguments(Arguments):
    """Nothing to say."""


class ReminderList(Tool[ReminderListArguments]):
    """Those to come, the next one first."""

    name: ClassVar = "reminder.list"
    description: ClassVar = "List the reminders and timers that are still to come."
    arguments: ClassVar = ReminderListArguments
    brings: ClassVar = "memory"

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def plan(self, args: ReminderListArguments) -> Intent:
        return Intent(preview="List the reminders and timers")

    async def run(self, args: ReminderListArguments, grant: Grant) -> dict[str, Any]:
        coming = await self._tasks.tasks(kind="reminder")
        user = _user(grant)
        return {"reminders": [_told(task) for task in coming if task.user_id == user]}


class ReminderCancelArguments(Arguments):
    """Which."""

    reminder_id: Annotated[str, Meta(min_length=1, max_length=100)]


class ReminderCancel(Tool[ReminderCancelArguments]):
    """Of reminders and timers only: other tasks are the person's own to remove."""

    name: ClassVar = "reminder.cancel"
    description: ClassVar = "Cancel a reminder or timer, by its id from reminder.list."
    arguments: ClassVar = ReminderCancelArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("removes a reminder",)

    def __init__(self, tasks: Tasks) -> None:
        self._tasks = tasks

    async def plan(self, args: ReminderCancelArguments) -> Intent:
        found = await self._found(args.reminder_id)
        return Intent(preview=f"Cancel the reminder {_when(found)}:\n\n{found.text}")

    async def run(self, args: ReminderCancelArguments, grant: Grant) -> dict[str, Any]:
        found = await self._found(args.reminder_id)
        if found.user_id != _user(grant):
            raise _missing(args.reminder_id)
        return _told(await self._tasks.remove(args.reminder_id)) | {"cancelled": True}

    async def _found(self, task_id: str) -> Task:
        task = await self._tasks.task(task_id)
        if task.kind != "reminder" or whose(task.user_id) != task.user_id:
            raise _missing(task_id)
        return task


def tools(tasks: Tasks) -> tuple[Tool[Any], ...]:
    """The pack."""
    return ReminderSet(tasks), TimerSet(tasks), ReminderList(tasks), ReminderCancel(tasks)


def _user(grant: Grant) -> str:
    """A key's user; else whose turn it is, and the owner outside of turns."""
    return whose(grant.asked.user_id or DEFAULT_USER)


def _missing(task_id: str) -> TaskNotFound:
    return TaskNotFound("No reminder has this id.", task_id=task_id)


def _when(task: Task) -> str:
    moment = f"{task.next_at.astimezone():%A, %d %B %Y, %H:%M}" if task.next_at else "never"
    again = task.schedule.cron or (task.schedule.every_s and f"every {task.schedule.every_s} s")
    return f"at {moment}" + (f" and then again and again ({again})" if again else "")


def _told(task: Task) -> dict[str, Any]:
    at = task.next_at.astimezone().isoformat(timespec="seconds") if task.next_at else None
    return {"reminder_id": task.id, "text": task.text, "at": at}
