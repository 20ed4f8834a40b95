"""Work for later, once or again and again.

A task is a turn that nobody attends, or a reminder that is told. It is never allowed more than
the same words would be if they were said now: what has to be asked is asked, and waits.
"""

from __future__ import annotations

import datetime as dt
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Literal, Protocol, runtime_checkable

import msgspec

from sonia.errors import InvalidRequest, NotFound, RateLimited
from sonia.turn import MAX_TEXT_CHARS, Turns
from sonia.types import DEFAULT_USER, ApprovalId, Value

Kind = Literal["turn", "reminder"]
RunStatus = Literal["running", "waiting", "done", "failed"]
MIN_EVERY_S = 60
MAX_EVERY_S = 366 * 24 * 3600


class TaskNotFound(NotFound):
    """No task has this id."""


class NotATime(InvalidRequest):
    """The words or the expression name no moment, or only one that is over."""


class TooManyTasks(RateLimited):
    """So many are planned that no further one is taken."""


class Schedule(Value, omit_defaults=True):
    """When: exactly one of the three.

    `at` is one moment. `every_s` is an interval in seconds. `cron` is five fields (minute, hour,
    day, month, day of week; 0 and 7 are Sunday), read in this machine's time zone.
    """

    at: dt.datetime | None = None
    every_s: Annotated[int, msgspec.Meta(ge=MIN_EVERY_S, le=MAX_EVERY_S)] | None = None
    cron: Annotated[str, msgspec.Meta(min_length=9, max_length=200)] | None = None


class NewTask(Value):
    """What is wanted. `when` is a `Schedule`, or words: "every weekday at eight", "in an hour".

    Without it the words are looked for in `text`: "every weekday at eight, read me my notes".
    A turn goes on in `session_id`; without one each run has a session of its own.
    """

    text: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
    when: Schedule | Annotated[str, msgspec.Meta(min_length=1, max_length=200)] | None = None
    kind: Kind = "turn"
    user_id: str = DEFAULT_USER
    session_id: str | None = None


class Run(Value):
    """One time that a task was done. `approvals` are the questions that it asked.

    `waiting` means that one of them is not answered yet; the run goes on when it is.
    """

    id: str
    task_id: str
    started_at: dt.datetime
    status: RunStatus
    ended_at: dt.datetime | None = None
    response: str = ""
    error: str | None = None
    session_id: str | None = None
    approvals: tuple[ApprovalId, ...] = ()


class Task(Value):
    """What is planned. `next_at` is None when it is over; `runs` are the newest, newest first."""

    id: str
    kind: Kind
    text: str
    schedule: Schedule
    user_id: str
    created_at: dt.datetime
    next_at: dt.datetime | None = None
    session_id: str | None = None
    runs: tuple[Run, ...] = ()


@runtime_checkable
class Tasks(Protocol):
    """Keeps them, and has each done when it is due."""

    async def add(self, new: NewTask) -> Task:
        """Raises `NotATime`, `TooManyTasks`."""
        ...

    def draft(self, new: NewTask) -> Task:
        """What `add` would keep, without keeping it. Raises `NotATime`."""
        ...

    async def task(self, task_id: str) -> Task:
        """With its newest runs. Raises `TaskNotFound`."""
        ...

    async def tasks(self, *, over: bool = False, kind: Kind | None = None) -> tuple[Task, ...]:
        """Those that are still to come, the next one first; with `over` the others too, last."""
        ...

    async def remove(self, task_id: str) -> Task:
        """With its runs; one that is under way is stopped. Raises `TaskNotFound`."""
        ...

    async def run(self, task_id: str) -> Run:
        """Do it now, besides its schedule, and return how that ended.

        Leaving early does not stop it. Raises `TaskNotFound`, `Conflict` while it is under way.
        """
        ...

    def serving(self, turns: Turns) -> AbstractAsyncContextManager[None]:
        """Enter to have done what is due, by `turns`; what was missed is done once.

        Leaving stops what is under way.
        """
        ...
