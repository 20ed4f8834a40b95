"""The ledger's and the sessions' SQL. Rows of the ledger are never changed, only erased."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.events import TurnFinished
from sonia.forgetting import ERASED
from sonia.integrity import report
from sonia.memory.columns import digest, from_json, micros, moment, to_json
from sonia.memory.interface import Event, Session, SessionNotFound, Utterance
from sonia.memory.rows import EVENT_COLUMNS, NOT_READ, NOT_WRITTEN, stored
from sonia.types import Role, new_id

SAID = {"turn.user": "user", "turn.assistant": "assistant"}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What is about to be written."""

    kind: str
    at: dt.datetime
    data: dict[str, Any]
    correlation_id: str
    user_id: str
    session_id: str | None = None
    turn_id: str | None = None


def append(c: apsw.Connection, row: Row) -> Event:
    """Add one row at the end."""
    columns = (
        row.kind,
        micros(row.at),
        row.user_id,
        row.session_id,
        row.turn_id,
        row.correlation_id,
        to_json(row.data),
    )
    c.execute(
        f"INSERT INTO memory_events ({EVENT_COLUMNS}, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608
        (*columns, digest(columns)),
    )
    return Event(
        number=c.last_insert_rowid(),
        kind=row.kind,
        at=moment(micros(row.at)),
        user_id=row.user_id,
        session_id=row.session_id,
        correlation_id=row.correlation_id,
        data=row.data,
    )


def events(
    c: apsw.Connection,
    session_id: str | None,
    kind: str | None,
    after: int,
    limit: int,
    user_id: str | None = None,
) -> tuple[Event, ...]:
    """Rows above `after`, oldest first, without damaged ones. Erased: `{"erased": true}`."""
    found = c.execute(
        "SELECT number FROM memory_events "
        "WHERE number > :after AND (:session_id IS NULL OR session_id = :session_id) "
        "AND (:kind IS NULL OR kind = :kind) AND (:user_id IS NULL OR user_id = :user_id) "
        "ORDER BY number LIMIT :limit",
        {
            "after": after,
            "session_id": session_id,
            "kind": kind,
            "user_id": user_id,
            "limit": limit,
        },
    )
    numbers = [cast(int, row[0]) for row in found]
    return tuple(_event(number, row) for number, row in _intact(c, numbers))


def _intact(c: apsw.Connection, numbers: Sequence[int]) -> Iterator[tuple[int, Sequence[Any]]]:
    """Number and `EVENT_COLUMNS` of these rows, in this order, without those that are damaged."""
    for number in numbers:
        row = stored(
            c,
            f"SELECT digest, {EVENT_COLUMNS} FROM memory_events WHERE number = ?",  # noqa: S608
            (number,),
        )
        if row is not None and (row[0] is None or row[0] == digest(row[1:])):
            yield number, row[1:]
        else:
            report("memory_events", number, NOT_READ if row is None else NOT_WRITTEN)


def _event(number: int, row: Sequence[Any]) -> Event:
    kind, at, user_id, session_id, _, correlation_id, data = row
    return Event(
        number=number,
        kind=kind,
        at=moment(at),
        user_id=user_id,
        session_id=session_id,
        correlation_id=correlation_id,
        data=from_json(data),
    )


def count(c: apsw.Connection, user_id: str | None = None) -> int:
    """Rows ever written."""
    rows = c.execute(
        "SELECT count(*) FROM memory_events WHERE ?1 IS NULL OR user_id = ?1", (user_id,)
    )
    return cast(int, rows.fetchall()[0][0])


# --- turns -------------------------------------------------------------------------------


def record_turn(
    c: apsw.Connection, turn: TurnFinished, memories: list[str], correlation_id: str
) -> int:
    """Write what was said, and count it in its session. Return how many rows it took.

    The person's words are always kept; the answer as far as it reached them, if it did.
    """
    said = [("turn.user", turn.text, True, memories)]
    if turn.response:
        said.append(("turn.assistant", turn.response, turn.complete, []))
    for kind, content, complete, made in said:
        data: dict[str, Any] = {
            "turn_id": turn.turn_id,
            "role": SAID[kind],
            "content": content,
            "at": turn.at,
            "complete": complete,
            "tainted": turn.tainted,
        }
        if made:
            data["memories"] = made
        append(
            c,
            Row(
                kind=kind,
                at=turn.at,
                data=data,
                correlation_id=correlation_id,
                user_id=turn.user_id,
                session_id=turn.session_id,
                turn_id=turn.turn_id,
            ),
        )
    open_session(c, turn.session_id, turn.user_id, {}, turn.at)
    count_turns(c, turn.session_id, 1, turn.at)
    return len(said)


def count_turns(c: apsw.Connection, session_id: str, turns: int, at: dt.datetime) -> None:
    """So many more turns, the last of them at that moment."""
    c.execute(
        "UPDATE memory_sessions SET turns = turns + ?, last_active_at = max(last_active_at, ?) "
        "WHERE id = ?",
        (turns, micros(at), session_id),
    )


def history(
    c: apsw.Connection,
    session_id: str,
    limit: int,
    before: int | None = None,
    after: int | None = None,
) -> tuple[Utterance, ...]:
    """The newest `limit` below `before`, or the oldest above `after`; oldest first.

    Erased ones are gone, damaged ones left out.
    """
    found = c.execute(
        "SELECT number FROM memory_events WHERE session_id = :session_id "  # noqa: S608
        "AND kind IN ('turn.user', 'turn.assistant') AND data <> :erased "
        "AND (:before IS NULL OR number < :before) AND (:after IS NULL OR number > :after) "
        f"ORDER BY number {'DESC' if after is None else 'ASC'} LIMIT :limit",
        {
            "session_id": session_id,
            "erased": ERASED,
            "before": before,
            "after": after,
            "limit": limit,
        },
    )
    return utterances(c, sorted(cast(int, row[0]) for row in found))


def utterances(c: apsw.Connection, numbers: Sequence[int]) -> tuple[Utterance, ...]:
    """These rows, in this order, without damaged ones. A restored one has its first time."""
    return tuple(_utterance(number, row) for number, row in _intact(c, numbers))


def _utterance(number: int, row: Sequence[Any]) -> Utterance:
    kind, at, _, _, turn_id, _, data = row
    said = from_json(data)
    told = said.get("at")
    return Utterance(
        role=cast(Role, SAID[kind]),
        content=said["content"],
        at=dt.datetime.fromisoformat(told) if told else moment(at),
        turn_id=turn_id,
        tainted=bool(said.get("tainted")) and kind == "turn.assistant",
        number=number,
    )


# --- sessions ----------------------------------------------------------------------------


def open_session(
    c: apsw.Connection,
    session_id: str | None,
    user_id: str,
    metadata: dict[str, Any],
    at: dt.datetime,
) -> Session:
    """The session with this id, made if it is not there."""
    chosen = session_id or new_id("ses")
    c.execute(
        "INSERT OR IGNORE INTO memory_sessions (id, user_id, created_at, last_active_at, metadata)"
        " VALUES (?, ?, ?, ?, ?)",
        (chosen, user_id, micros(at), micros(at), to_json(metadata)),
    )
    return session(c, chosen)


def session(c: apsw.Connection, session_id: str) -> Session:
    """Raises `SessionNotFound`."""
    row = c.execute(
        "SELECT id, user_id, created_at, last_active_at, metadata, turns FROM memory_sessions "
        "WHERE id = ?",
        (session_id,),
    ).fetchone()
    if row is None:
        raise SessionNotFound("No session has this id.", id=session_id)
    return _session(*cast("tuple[Any, ...]", row))


def sessions(c: apsw.Connection, limit: int, user_id: str | None = None) -> tuple[Session, ...]:
    """Most recently active first."""
    rows = c.execute(
        "SELECT id, user_id, created_at, last_active_at, metadata, turns FROM memory_sessions "
        "WHERE ?1 IS NULL OR user_id = ?1 ORDER BY last_active_at DESC, rowid DESC LIMIT ?2",
        (user_id, limit),
    )
    return tuple(_session(*cast("tuple[Any, ...]", row)) for row in rows)


def close_session(c: apsw.Connection, session_id: str) -> list[int]:
    """Delete the session; return the numbers of what was said in it. Raises `SessionNotFound`."""
    session(c, session_id)
    c.execute("DELETE FROM memory_sessions WHERE id = ?", (session_id,))
    said = c.execute(
        "SELECT number FROM memory_events WHERE session_id = ? AND turn_id IS NOT NULL "
        "AND data <> ?",
        (session_id, ERASED),
    )
    return [cast(int, row[0]) for row in said]


def session_count(c: apsw.Connection, user_id: str | None = None) -> int:
    """Open sessions."""
    rows = c.execute(
        "SELECT count(*) FROM memory_sessions WHERE ?1 IS NULL OR user_id = ?1", (user_id,)
    )
    return cast(int, rows.fetchall()[0][0])


def _session(
    id: str, user_id: str, created_at: int, last_active_at: int, metadata: str, turns: int
) -> Session:
    return Session(
        id=id,
        user_id=user_id,
        created_at=moment(created_at),
        last_active_at=moment(last_active_at),
        metadata=from_json(metadata),
        turns=turns,
    )
