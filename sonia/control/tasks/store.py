"""The tables of tasks, and the only SQL that touches them. Functions of a connection."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.control.ledger import stored
from sonia.control.tasks.interface import Kind, Run, Schedule, Task, TaskNotFound

if TYPE_CHECKING:
    import apsw

RUNS_KEPT = 50
INTERRUPTED = "Sonia was stopped before this was done."
_TASK = (
    "SELECT id, kind, text, schedule, user_id, session_id, created_at, next_at FROM control_tasks"
)
_RUN = (
    "SELECT id, task_id, started_at, ended_at, status, response, error, session_id, approvals "
    "FROM control_task_runs"
)


def insert(c: apsw.Connection, task: Task) -> None:
    """Add a task."""
    row = (task.id, task.kind, task.text, msgspec.json.encode(task.schedule).decode())
    c.execute(
        "INSERT INTO control_tasks (id, kind, text, schedule, user_id, session_id, created_at, "
        "next_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*row, task.user_id, task.session_id, stored(task.created_at), _when(task.next_at)),
    )


def one(c: apsw.Connection, task_id: str) -> Task:
    """With its newest runs. Raises `TaskNotFound`."""
    rows = c.execute(_TASK + " WHERE id = ?", (task_id,)).fetchall()
    if not rows:
        raise TaskNotFound("No task has this id.", task_id=task_id)
    runs = c.execute(_RUN + " WHERE task_id = ? ORDER BY number DESC LIMIT ?", (task_id, RUNS_KEPT))
    task = _task(rows[0])
    return msgspec.structs.replace(task, runs=tuple(_run(row) for row in runs))


def every(c: apsw.Connection, *, over: bool, kind: Kind | None) -> tuple[Task, ...]:
    """The next one first; those that are over last, newest first."""
    rows = c.execute(
        _TASK + " WHERE (? OR next_at IS NOT NULL) AND (? IS NULL OR kind = ?) "
        "ORDER BY next_at IS NULL, next_at, number DESC",
        (over, kind, kind),
    )
    return tuple(_task(row) for row in rows)


def due(c: apsw.Connection, at: dt.datetime) -> tuple[Task, ...]:
    """What should have been done by now, the longest due first."""
    rows = c.execute(_TASK + " WHERE next_at <= ? ORDER BY next_at", (stored(at),))
    return tuple(_task(row) for row in rows)


def planned(c: apsw.Connection) -> int:
    """How many are still to come."""
    ((count,),) = c.execute("SELECT count(*) FROM control_tasks WHERE next_at IS NOT NULL")
    return cast(int, count)


def delete(c: apsw.Connection, task_id: str) -> None:
    """With its runs."""
    c.execute("DELETE FROM control_task_runs WHERE task_id = ?", (task_id,))
    c.execute("DELETE FROM control_tasks WHERE id = ?", (task_id,))


def begin(c: apsw.Connection, run: Run, next_at: dt.datetime | None, *, due: bool) -> bool:
    """Note that it runs, before it does; the oldest runs go. False when the task is gone.

    With `due` it is put off to `next_at` in the same step, so that it is not done twice; false
    when somebody else did so.
    """
    if due:
        found = c.execute(
            "UPDATE control_tasks SET next_at = ? WHERE id = ? AND next_at <= ? RETURNING id",
            (_when(next_at), run.task_id, stored(run.started_at)),
        ).fetchall()
    else:
        found = c.execute("SELECT id FROM control_tasks WHERE id = ?", (run.task_id,)).fetchall()
    if not found:
        return False
    c.execute(
        "INSERT INTO control_task_runs (id, task_id, started_at, status, response, approvals) "
        "VALUES (?, ?, ?, 'running', '', '[]')",
        (run.id, run.task_id, stored(run.started_at)),
    )
    c.execute(
        "DELETE FROM control_task_runs WHERE task_id = ? AND number NOT IN (SELECT number FROM "
        "control_task_runs WHERE task_id = ? ORDER BY number DESC LIMIT ?)",
        (run.task_id, run.task_id, RUNS_KEPT),
    )
    return True


def update(c: apsw.Connection, run: Run) -> None:
    """How it is now; nothing for one whose task was removed."""
    c.execute(
        "UPDATE control_task_runs SET ended_at = ?, status = ?, response = ?, error = ?, "
        "session_id = ?, approvals = ? WHERE id = ?",
        (
            _when(run.ended_at),
            run.status,
            run.response,
            run.error,
            run.session_id,
            json.dumps(run.approvals),
            run.id,
        ),
    )


def settle_left_over(c: apsw.Connection, at: dt.datetime) -> list[str]:
    """End what an earlier process was in the middle of; ids of those runs."""
    rows = c.execute(
        "UPDATE control_task_runs SET status = 'failed', error = ?, ended_at = ? "
        "WHERE status IN ('running', 'waiting') RETURNING id",
        (INTERRUPTED, stored(at)),
    ).fetchall()
    return [cast(str, id_) for (id_,) in cast("Iterable[Any]", rows)]


def _when(moment: dt.datetime | None) -> str | None:
    return None if moment is None else stored(moment)


def _moment(text: str | None) -> dt.datetime | None:
    return None if text is None else dt.datetime.fromisoformat(text)


def _task(row: Any) -> Task:
    id_, kind, text, schedule, user_id, session_id, created_at, next_at = row
    return Task(
        id=id_,
        kind=kind,
        text=text,
        schedule=msgspec.json.decode(schedule, type=Schedule),
        user_id=user_id,
        session_id=session_id,
        created_at=dt.datetime.fromisoformat(created_at),
        next_at=_moment(next_at),
    )


def _run(row: Any) -> Run:
    id_, task_id, started_at, ended_at, status, response, error, session_id, approvals = row
    return Run(
        id=id_,
        task_id=task_id,
        started_at=dt.datetime.fromisoformat(started_at),
        ended_at=_moment(ended_at),
        status=status,
        response=response,
        error=error,
        session_id=session_id,
        approvals=tuple(json.loads(approvals)),
    )
