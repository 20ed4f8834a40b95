"""Dead letters: the table, and the only SQL that touches it.

For what is risky a row is there before the effect, so that a crash in the middle leaves one.
"""

from __future__ import annotations

import datetime as dt
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.control import DeadLetter, LetterNotFound, LetterSettled, LetterState
from sonia.tools.store import clean
from sonia.tools.waiting import Action
from sonia.types import Origin, Value, new_id, now, rfc3339

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

KEPT = 1_000
INTERRUPTED = "Sonia was stopped in the middle of it; it may be half done."
_COLUMNS = "id, action_id, tool, arguments, at, state, error, session_id, replayed_as"
_ADD = """
INSERT INTO tools_dead_letters
  (id, action_id, tool, arguments, whole, origins, session_id, at, state, error)
VALUES (:id, :action_id, :tool, :arguments, :whole, :origins, :session_id, :at, :state, :error)
ON CONFLICT (action_id) DO UPDATE SET state = excluded.state, error = excluded.error
"""
_PRUNE = """
DELETE FROM tools_dead_letters WHERE state <> 'running' AND number <=
  (SELECT max(number) FROM tools_dead_letters) - ?
"""
_TAKE = """
UPDATE tools_dead_letters SET state = 'replayed', replayed_as = ?
WHERE id = ? AND state = 'open' AND whole RETURNING tool, arguments, origins, session_id
"""


class Again(Value):
    """The call of a letter."""

    tool: str
    arguments: dict[str, Any]
    origins: tuple[Origin, ...]
    session_id: str | None


class Letters:
    """Rows by letter."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def begin(self, action: Action) -> None:
        """It is about to be done: if nothing more is heard, it is a letter."""
        await self._db.write(partial(_add, row=_row(action, "running", INTERRUPTED)))

    async def failed(self, action: Action, error: str) -> None:
        """It was not done, or not wholly."""
        await self._db.write(partial(_add, row=_row(action, "open", error)))

    async def done(self, action: Action) -> None:
        """It was done: there is nothing to keep."""
        await self._db.write(
            lambda c: c.execute(
                "DELETE FROM tools_dead_letters WHERE action_id = ? AND state = 'running'",
                (action.id,),
            ).fetchall()
        )

    async def settle_left_over(self) -> None:
        """What an earlier process was in the middle of are letters now."""
        await self._db.write(
            lambda c: c.execute(
                "UPDATE tools_dead_letters SET state = 'open' WHERE state = 'running'"
            ).fetchall()
        )

    async def newest(self, state: LetterState | None, limit: int) -> tuple[DeadLetter, ...]:
        """Newest first."""

        def work(c: apsw.Connection) -> tuple[DeadLetter, ...]:
            rows = c.execute(
                f"SELECT {_COLUMNS} FROM tools_dead_letters WHERE state <> 'running' "  # noqa: S608
                "AND (? IS NULL OR state = ?) ORDER BY number DESC LIMIT ?",
                (state, state, limit),
            )
            return tuple(_letter(row) for row in rows)

        return await self._db.read(work)

    async def take(self, letter_id: str, action_id: str) -> Again:
        """For one who tries again as `action_id`, once. Raises as `DeadLetters.replay` does."""

        def work(c: apsw.Connection) -> Again:
            rows = cast(Any, c.execute(_TAKE, (action_id, letter_id)).fetchall())
            if not rows:
                raise _unusable(_find(c, letter_id))
            tool, arguments, origins, session_id = rows[0]
            return Again(
                tool=tool,
                arguments=msgspec.json.decode(arguments),
                origins=tuple(msgspec.json.decode(origins)),
                session_id=session_id,
            )

        return await self._db.write(work)

    async def put_back(self, letter_id: str) -> None:
        """The call was refused before it became an action."""
        await self._db.write(
            lambda c: c.execute(
                "UPDATE tools_dead_letters SET state = 'open', replayed_as = NULL WHERE id = ?",
                (letter_id,),
            ).fetchall()
        )

    async def find(self, letter_id: str) -> DeadLetter:
        """Raises `LetterNotFound`."""
        return await self._db.read(partial(_find, letter_id=letter_id))

    async def dismiss(self, letter_id: str) -> DeadLetter:
        """Raises `LetterNotFound`, `LetterSettled`."""

        def work(c: apsw.Connection) -> DeadLetter:
            rows = c.execute(
                "UPDATE tools_dead_letters SET state = 'dismissed' "
                "WHERE id = ? AND state = 'open' RETURNING id",
                (letter_id,),
            ).fetchall()
            letter = _find(c, letter_id)
            if not rows:
                raise _unusable(letter)
            return letter

        return await self._db.write(work)


def _add(c: apsw.Connection, row: dict[str, Any]) -> None:
    c.execute(_ADD, row)
    c.execute(_PRUNE, (KEPT,))


def _row(action: Action, state: str, error: str) -> dict[str, Any]:
    plan = action.prepared.plan
    kept = clean(plan.arguments)
    return {
        "id": new_id("let"),
        "action_id": action.id,
        "tool": plan.tool,
        "arguments": msgspec.json.encode(kept).decode(),
        "whole": kept == plan.arguments,
        "origins": msgspec.json.encode(plan.origins).decode(),
        "session_id": plan.session_id,
        "at": rfc3339(now()),
        "state": state,
        "error": clean(error),
    }


def _find(c: apsw.Connection, letter_id: str) -> DeadLetter:
    rows = c.execute(
        f"SELECT {_COLUMNS} FROM tools_dead_letters WHERE id = ? AND state <> 'running'",  # noqa: S608
        (letter_id,),
    ).fetchall()
    if not rows:
        raise LetterNotFound("No dead letter has this id.", letter_id=letter_id)
    return _letter(rows[0])


def _letter(row: Any) -> DeadLetter:
    id_, action_id, tool, arguments, at, state, error, session_id, replayed_as = row
    return DeadLetter(
        id=id_,
        action_id=action_id,
        tool=tool,
        arguments=msgspec.json.decode(arguments),
        at=dt.datetime.fromisoformat(at),
        state=state,
        error=error,
        session_id=session_id,
        replayed_as=replayed_as,
    )


def _unusable(letter: DeadLetter) -> LetterSettled:
    if letter.state == "open":
        why = "A secret was taken out of its arguments, or they were forgotten. Ask for it anew."
    else:
        why = f"It is {letter.state} already."
    return LetterSettled(why, letter_id=letter.id, state=letter.state)
