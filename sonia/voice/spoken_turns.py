"""Spoken turns as kept: what was said, what was heard of the answer, how long it took."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.db import Database
from sonia.forgetting import Key, Place, Scope, Whole
from sonia.types import Value

if TYPE_CHECKING:
    import apsw

_MICROS = 1_000_000
LIMIT = 500


class SpokenTurn(Value):
    """One. `heard` is what of the answer was heard; times count from the session's first sound."""

    session_id: str
    turn_id: str | None
    user_id: str
    at: dt.datetime
    text: str
    heard: str
    complete: bool
    start_ms: int
    end_ms: int
    metrics: dict[str, float | None]


class SpokenTurns:
    """Those of every session."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def keep(self, turn: SpokenTurn) -> None:
        """Durable when it returns."""
        await self._db.write(partial(_insert, turn=turn))

    async def of(self, session_id: str) -> tuple[SpokenTurn, ...]:
        """The newest of a session, oldest first."""
        return await self._db.read(partial(_select, session_id=session_id))


class TurnsSpoken:
    """The place of what was said aloud, for forgetting."""

    name = "spoken_turns"
    tables: tuple[str, ...] = ("voice_turns",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row. Two of one moment in one session are one."""
        yield from cast(Any, c.execute("SELECT number, session_id || ' ' || at FROM voice_turns"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Who spoke, and in which sessions."""
        for whole, column in (("person", "user_id"), ("session", "session_id")):
            for (name,) in c.execute(f"SELECT DISTINCT {column} FROM voice_turns").fetchall():  # noqa: S608
                yield cast(Whole, whole), cast(str, name)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """All of a person and of a session, the turns meant, and those that hold the words."""
        rows = c.execute(
            "SELECT number, session_id, at, user_id, turn_id, text, heard FROM voice_turns"
        )
        for number, session_id, at, user_id, turn_id, *held in cast("Iterable[Any]", rows):
            if scope.until is not None and at > scope.until:
                continue
            if (
                user_id in scope.persons
                or session_id in scope.sessions
                or turn_id in scope.turns
                or (user_id in scope.users and any(_mentioned(scope, text) for text in held))
            ):
                yield number, f"{session_id} {at}"

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Delete them."""
        c.executemany("DELETE FROM voice_turns WHERE number = ?", [(key,) for key in keys])
        return {self.name: len(keys)}


def _mentioned(scope: Scope, text: str) -> bool:
    return scope.entity.within(text) or scope.phrases.within(text)


def _insert(c: apsw.Connection, turn: SpokenTurn) -> None:
    c.execute(
        "INSERT INTO voice_turns "
        "(session_id, turn_id, user_id, at, text, heard, complete, start_ms, end_ms, metrics) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            turn.session_id,
            turn.turn_id,
            turn.user_id,
            int(turn.at.timestamp() * _MICROS),
            turn.text,
            turn.heard,
            turn.complete,
            turn.start_ms,
            turn.end_ms,
            msgspec.json.encode(turn.metrics).decode(),
        ),
    )


def _select(c: apsw.Connection, session_id: str) -> tuple[SpokenTurn, ...]:
    rows: Any = c.execute(
        "SELECT session_id, turn_id, user_id, at, text, heard, complete, start_ms, end_ms, metrics "
        "FROM voice_turns WHERE session_id = ? ORDER BY number DESC LIMIT ?",
        (session_id, LIMIT),
    ).fetchall()
    return tuple(
        SpokenTurn(
            session_id=session,
            turn_id=turn_id,
            user_id=user_id,
            at=dt.datetime.fromtimestamp(at / _MICROS, dt.UTC),
            text=text,
            heard=heard,
            complete=bool(complete),
            start_ms=start_ms,
            end_ms=end_ms,
            metrics=msgspec.json.decode(metrics),
        )
        for session, turn_id, user_id, at, text, heard, complete, start_ms, end_ms, metrics in rows[
            ::-1
        ]
    )


PLACES: tuple[Place, ...] = (TurnsSpoken(),)
