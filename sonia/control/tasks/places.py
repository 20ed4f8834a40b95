"""Where tasks may hold what is to be forgotten: what is planned, and what came of it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from sonia.control.ledger import stored
from sonia.control.tasks.store import delete
from sonia.forgetting import Key, Place, Scope, Whole

if TYPE_CHECKING:
    import apsw

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Planned:
    """The tasks; with one go its runs."""

    name = "tasks"
    tables: tuple[str, ...] = ("control_tasks",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM control_tasks"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """The persons who planned something."""
        for (user_id,) in cast(Any, c.execute("SELECT DISTINCT user_id FROM control_tasks")):
            yield "person", user_id

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """All of a person and of a session, and of the users' those that hold the words."""
        rows = c.execute(
            "SELECT id, user_id, session_id, text FROM control_tasks "
            "WHERE :until IS NULL OR created_at <= :until",
            {"until": _until(scope)},
        )
        for id_, user_id, session_id, text in cast("Iterable[Any]", rows):
            theirs = user_id in scope.users and _mentioned(scope, text)
            if user_id in scope.persons or session_id in scope.sessions or theirs:
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Remove them."""
        for key in keys:
            delete(c, str(key))
        return {"tasks": len(keys)}


class Done:
    """What runs answered; that there was one stays."""

    name = "task_runs"
    tables: tuple[str, ...] = ("control_task_runs",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM control_task_runs"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Runs in the sessions, and those of the users that hold the words."""
        rows = c.execute(
            "SELECT r.id, t.user_id, r.session_id, r.response, r.error FROM control_task_runs r "
            "LEFT JOIN control_tasks t ON t.id = r.task_id "
            "WHERE :until IS NULL OR r.started_at <= :until",
            {"until": _until(scope)},
        )
        for id_, user_id, session_id, response, error in cast("Iterable[Any]", rows):
            theirs = user_id in scope.users and _mentioned(scope, f"{response}\n{error or ''}")
            if session_id in scope.sessions or theirs:
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Blank them."""
        c.executemany(
            "UPDATE control_task_runs SET response = '', error = iif(error IS NULL, NULL, ''), "
            "session_id = NULL WHERE id = ?",
            [(key,) for key in keys],
        )
        return {"task_runs": len(keys)}


def _mentioned(scope: Scope, text: str) -> bool:
    return scope.entity.within(text) or scope.phrases.within(text)


def _until(scope: Scope) -> str | None:
    if scope.until is None:
        return None
    return stored(EPOCH + dt.timedelta(microseconds=scope.until))


PLACES: tuple[Place, ...] = (Done(), Planned())
