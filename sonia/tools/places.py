"""Where tools may hold what is to be forgotten: what was asked of them and what they answered."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.forgetting import Key, Place, Scope, Whole
from sonia.tools.interface import ActionError, Outcome
from sonia.tools.trash import TRASH, held
from sonia.types import rfc3339

if TYPE_CHECKING:
    import apsw

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
GONE = ActionError(code="not_found", message="What this was about was forgotten.")


class ActionsDone:
    """The outcomes."""

    name = "actions"
    tables: tuple[str, ...] = ("tools_actions",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM tools_actions"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Actions of the sessions and approvals, and those that hold the words."""
        rows = c.execute(
            "SELECT id, session_id, approval_id, outcome FROM tools_actions "
            "WHERE NOT erased AND (:until IS NULL OR created_at <= :until)",
            {"until": _until(scope)},
        )
        for id_, session_id, approval_id, outcome in cast("Iterable[Any]", rows):
            if (
                id_ in scope.actions
                or approval_id in scope.approvals
                or scope.whole(session_id)
                or (outcome and scope.theirs(session_id) and _mentioned(scope, outcome))
            ):
                scope.actions.add(id_)
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Keep that there was an action, and how it ended."""
        for key in keys:
            row = c.execute("SELECT outcome FROM tools_actions WHERE id = ?", (key,)).fetchone()
            outcome = _blanked(row[0]) if row and row[0] else None
            c.execute(
                "UPDATE tools_actions SET outcome = ?, erased = 1, "
                "session_id = iif(?, NULL, session_id) WHERE id = ?",
                (outcome, bool(scope.persons), key),
            )
        return {"actions": len(keys)}


def _blanked(text: Any) -> str:
    outcome = msgspec.json.decode(text, type=Outcome)
    decision = msgspec.structs.replace(outcome.decision, reason="")
    waits = outcome.status == "approval_required"
    return msgspec.json.encode(
        msgspec.structs.replace(
            outcome,
            status="denied" if waits else outcome.status,
            decision=decision,
            result={"erased": True},
            verification=None,
            preview=None,
            error=GONE if waits or outcome.error else None,
        )
    ).decode()


def _mentioned(scope: Scope, data: str) -> bool:
    return scope.entity.within_json(data) or scope.phrases.within_json(data)


def _until(scope: Scope) -> str | None:
    if scope.until is None:
        return None
    return rfc3339(EPOCH + dt.timedelta(microseconds=scope.until))


class Undo:
    """What undoing needs of files that were changed, and what is in the trash."""

    name = "undo"
    tables: tuple[str, ...] = ("tools_undo",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT action_id, action_id FROM tools_undo"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Those of the actions that are forgotten, and those whose files hold the words."""
        rows = c.execute(
            "SELECT u.action_id, u.kept, u.before, a.session_id FROM tools_undo AS u "
            "LEFT JOIN tools_actions AS a ON a.id = u.action_id "
            "WHERE :until IS NULL OR u.created_at <= :until",
            {"until": _until(scope)},
        )
        trash = Path(c.filename).parent / TRASH
        for id_, kept, before, session_id in cast("Iterable[Any]", rows):
            if id_ in scope.actions or (
                scope.theirs(session_id)
                and (
                    _mentioned(scope, kept)
                    or (before is not None and _said(scope, before))
                    or any(_said(scope, text) for text in held(trash / id_))
                )
            ):
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """They can't be undone any more; the trash is emptied of them when that is told."""
        c.executemany("DELETE FROM tools_undo WHERE action_id = ?", [(key,) for key in keys])
        return {"undo": len(keys)}


def _said(scope: Scope, content: bytes) -> bool:
    text = content.decode("utf-8", "replace")
    return scope.entity.within(text) or scope.phrases.within(text)


class Failed:
    """Dead letters: what was asked and failed."""

    name = "dead_letters"
    tables: tuple[str, ...] = ("tools_dead_letters",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM tools_dead_letters"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Those of the actions and sessions, and those that hold the words."""
        rows = c.execute(
            "SELECT id, action_id, session_id, arguments, error FROM tools_dead_letters "
            "WHERE :until IS NULL OR at <= :until",
            {"until": _until(scope)},
        )
        for id_, action_id, session_id, arguments, error in cast("Iterable[Any]", rows):
            said = _mentioned(scope, arguments) or _mentioned(scope, error)
            if (
                action_id in scope.actions
                or scope.whole(session_id)
                or (scope.theirs(session_id) and said)
            ):
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Remove them."""
        c.executemany("DELETE FROM tools_dead_letters WHERE id = ?", [(key,) for key in keys])
        return {"dead_letters": len(keys)}


PLACES: tuple[Place, ...] = (ActionsDone(), Undo(), Failed())
