"""The routes of tasks, below `/control/tasks`. With keys, each sees their own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter

from sonia.control.tasks.interface import Kind, NewTask, Run, Task, TaskNotFound, Tasks
from sonia.envelope import Envelope, answer
from sonia.whose import check_theirs, whose

Over = Annotated[bool, QueryParameter()]
OfKind = Annotated[Kind | None, QueryParameter()]


def routes(tasks: Tasks) -> Sequence[Any]:
    """`/tasks…` for `tasks`."""

    @get("/tasks")
    async def list_tasks(over: Over = False, kind: OfKind = None) -> Envelope[tuple[Task, ...]]:
        found = await tasks.tasks(over=over, kind=kind)
        return answer(tuple(task for task in found if whose(task.user_id) == task.user_id))

    @post("/tasks", status_code=201)
    async def add_task(data: JSONBody[NewTask]) -> Envelope[Task]:
        new = msgspec.structs.replace(data, user_id=whose(data.user_id))
        return answer(await tasks.add(new))

    @get("/tasks/{task_id:str}")
    async def show_task(task_id: FromPath[str]) -> Envelope[Task]:
        return answer(await _own(tasks, task_id))

    @delete("/tasks/{task_id:str}", status_code=200)
    async def remove_task(task_id: FromPath[str]) -> Envelope[Task]:
        await _own(tasks, task_id)
        return answer(await tasks.remove(task_id))

    @post("/tasks/{task_id:str}/run", status_code=200)
    async def run_task(task_id: FromPath[str]) -> Envelope[Run]:
        await _own(tasks, task_id)
        return answer(await tasks.run(task_id))

    return list_tasks, add_task, show_task, remove_task, run_task


async def _own(tasks: Tasks, task_id: str) -> Task:
    task = await tasks.task(task_id)
    check_theirs(task.user_id, TaskNotFound("No task has this id.", task_id=task_id))
    return task
