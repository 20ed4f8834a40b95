"""The SQL of snapshots: what was said and remembered in a session, copied and put back."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.forgetting import ERASED, Key, Place, Scope, Whole
from sonia.memory import ledger, store
from sonia.memory.columns import digest, from_json, likeness, micros, moment, to_json
from sonia.memory.interface import (
    Entry,
    NewMemory,
    Restored,
    SessionNotFound,
    Snapshot,
    SnapshotNotFound,
)
from sonia.memory.places import bound, mentioned
from sonia.types import new_id

_SELECT = """
SELECT s.number, id, session_id, user_id, name, created_at,
    (SELECT count(*) FROM memory_snapshot_items WHERE snapshot = s.number AND kind <> 'memory'),
    (SELECT count(*) FROM memory_snapshot_items WHERE snapshot = s.number AND kind = 'memory')
FROM memory_snapshots s
"""


def create(c: apsw.Connection, session_id: str, name: str, at: dt.datetime) -> Snapshot:
    """Copy the session as it is. Raises `SessionNotFound`."""
    session = ledger.session(c, session_id)
    snapshot_id = new_id("snp")
    c.execute(
        "INSERT INTO memory_snapshots (id, session_id, user_id, name, metadata, created_at) "
        "VALUES (?, ?, ?, ?, ?, ?)",
        (snapshot_id, session_id, session.user_id, name, to_json(session.metadata), micros(at)),
    )
    number = c.last_insert_rowid()
    copies = [*_utterances(c, session_id), *_memories(c, session_id)]
    c.executemany(
        "INSERT INTO memory_snapshot_items VALUES (?, ?, ?, ?, ?, ?)",
        [(number, place, *copy, digest(copy)) for place, copy in enumerate(copies)],
    )
    return find(c, snapshot_id)


def _utterances(c: apsw.Connection, session_id: str) -> Iterable[tuple[str, str, str]]:
    rows = c.execute(
        "SELECT kind, turn_id, data FROM memory_events WHERE session_id = ? "
        "AND kind IN ('turn.user', 'turn.assistant') AND data <> ? ORDER BY number",
        (session_id, ERASED),
    )
    return cast("Iterable[tuple[str, str, str]]", rows.fetchall())


def _memories(c: apsw.Connection, session_id: str) -> Iterable[tuple[str, str, str]]:
    numbers = [
        cast(int, row[0])
        for row in c.execute(
            "SELECT number FROM memory_entries "
            "WHERE session_id = ? AND superseded_by IS NULL ORDER BY number",
            (session_id,),
        )
    ]
    for entry in store.entries(c, numbers).values():
        yield "memory", entry.id, msgspec.json.encode(entry).decode()


def find(c: apsw.Connection, snapshot_id: str) -> Snapshot:
    """Raises `SnapshotNotFound`."""
    row = c.execute(f"{_SELECT} WHERE id = ?", (snapshot_id,)).fetchone()
    if row is None:
        raise _no_snapshot(snapshot_id)
    return _snapshot(*cast("tuple[Any, ...]", row))


def _no_snapshot(snapshot_id: str) -> SnapshotNotFound:
    return SnapshotNotFound("No snapshot has this id.", id=snapshot_id)


def newest(
    c: apsw.Connection,
    *,
    session_id: str | None,
    user_id: str | None,
    before: int | None,
    limit: int,
) -> tuple[Snapshot, ...]:
    """Newest first, those with a number below `before`."""
    rows = c.execute(
        f"{_SELECT} WHERE (:session_id IS NULL OR session_id = :session_id) "
        "AND (:user_id IS NULL OR user_id = :user_id) AND (:before IS NULL OR number < :before) "
        "ORDER BY number DESC LIMIT :limit",
        {"session_id": session_id, "user_id": user_id, "before": before, "limit": limit},
    )
    return tuple(_snapshot(*cast("tuple[Any, ...]", row)) for row in rows)


def _snapshot(
    number: int,
    id: str,
    session_id: str,
    user_id: str,
    name: str,
    created_at: int,
    utterances: int,
    memories: int,
) -> Snapshot:
    return Snapshot(
        number=number,
        id=id,
        session_id=session_id,
        user_id=user_id,
        name=name,
        created_at=moment(created_at),
        utterances=utterances,
        memories=memories,
    )


# --- putting back ------------------------------------------------------------------------


def restore(
    c: apsw.Connection,
    snapshot_id: str,
    session_id: str | None,
    user_id: str | None,
    note: ledger.Row,
) -> Restored:
    """Append copies to a session of the same person, by default a new one.

    Raises `SnapshotNotFound`, and `SessionNotFound` for somebody else's session.
    """
    snapshot = find(c, snapshot_id)
    if user_id not in (None, snapshot.user_id):
        raise _no_snapshot(snapshot_id)
    (metadata,) = c.execute(
        "SELECT metadata FROM memory_snapshots WHERE id = ?", (snapshot_id,)
    ).fetchall()[0]
    session = ledger.open_session(
        c, session_id, snapshot.user_id, from_json(cast(str, metadata)), note.at
    )
    if session.user_id != snapshot.user_id:
        raise SessionNotFound("No session of this person has this id.", id=session.id)
    rows = c.execute(
        "SELECT kind, ref, data, digest FROM memory_snapshot_items "
        "WHERE snapshot = ? ORDER BY position",
        (snapshot.number,),
    ).fetchall()
    sound = [row for row in cast("list[Any]", rows) if digest(row[:3]) == row[3]]
    turns = {ref: new_id("turn") for kind, ref, *_ in sound if kind != "memory"}
    said = [row for row in sound if row[0] != "memory"]
    for kind, ref, data, _ in said:
        copy = {**from_json(data), "turn_id": turns[ref], "restored_from": snapshot.id}
        copy.pop("memories", None)
        ledger.append(
            c,
            msgspec.structs.replace(
                note,
                kind=kind,
                data=copy,
                user_id=snapshot.user_id,
                session_id=session.id,
                turn_id=turns[ref],
            ),
        )
    ledger.count_turns(c, session.id, len(turns), note.at)
    memories = [row[2] for row in sound if row[0] == "memory"]
    restored = Restored(
        snapshot_id=snapshot.id,
        session_id=session.id,
        utterances=len(said),
        memories=sum([_remember(c, data, session.id, turns, note) for data in memories]),
        damaged=len(rows) - len(sound),
    )
    ledger.append(
        c,
        msgspec.structs.replace(
            note,
            data=msgspec.to_builtins(restored),
            user_id=snapshot.user_id,
            session_id=session.id,
        ),
    )
    return restored


def _remember(
    c: apsw.Connection, data: str, session_id: str, turns: dict[str, str], note: ledger.Row
) -> bool:
    """Store a copy, as little trusted as it was; not of what the person still has."""
    was = msgspec.json.decode(data, type=Entry)
    same = c.execute(
        "SELECT 1 FROM memory_entries WHERE likeness = ? AND user_id = ? LIMIT 1",
        (likeness(was.content), was.user_id),
    ).fetchone()
    if same is not None:
        return False
    made_from = tuple(one for one in was.source.made_from if store.exists(c, one))
    turn_id = turns.get(was.source.turn_id or "", was.source.turn_id)
    store.insert(
        c,
        NewMemory(
            type=was.type,
            content=was.content,
            metadata=was.metadata,
            user_id=was.user_id,
            session_id=session_id,
            valid_from=was.valid_from,
            valid_to=was.valid_to,
            importance=was.importance,
            origin=was.origin,
            source=msgspec.structs.replace(was.source, made_from=made_from, turn_id=turn_id),
            pinned=was.pinned,
        ),
        note.at,
    )
    return True


# --- forgetting --------------------------------------------------------------------------


class Snapshots:
    """Items of snapshots, and under the position -1 what a snapshot is called."""

    name = "snapshots"
    tables: tuple[str, ...] = ("memory_snapshots", "memory_snapshot_items")

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every item."""
        for number, id_, position in c.execute(
            "SELECT number, id, -1 FROM memory_snapshots UNION ALL "
            "SELECT snapshot, id, position FROM memory_snapshot_items "
            "JOIN memory_snapshots ON number = snapshot"
        ):
            yield f"{number} {position}", f"{id_} {position}"

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Sessions and persons that have nothing else any more."""
        for session_id, user_id in c.execute(
            "SELECT session_id, user_id FROM memory_snapshots"
        ).fetchall():
            yield "session", cast(str, session_id)
            yield "person", cast(str, user_id)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Copies of what is meant, and those that hold the words."""
        rows = c.execute(
            "SELECT number, id, session_id, user_id, -1, '', json_array(name, metadata) "
            "FROM memory_snapshots WHERE user_id IN (SELECT value FROM json_each(:users)) "
            "AND (:until IS NULL OR created_at <= :until) UNION ALL "
            "SELECT number, id, session_id, user_id, position, ref, data "
            "FROM memory_snapshots JOIN memory_snapshot_items ON snapshot = number "
            "WHERE user_id IN (SELECT value FROM json_each(:users)) "
            "AND (:until IS NULL OR created_at <= :until)",
            bound(scope),
        )
        for number, id_, session, user, position, ref, data in cast("Iterable[Any]", rows):
            if (
                user in scope.persons
                or session in scope.sessions
                or ref in scope.turns
                or ref in scope.memories
                or mentioned(scope, data)
            ):
                yield f"{number} {position}", f"{id_} {position}"

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Delete the items; a snapshot of a person or session meant goes whole."""
        for key in keys:
            number, position = str(key).split()
            c.execute(
                "DELETE FROM memory_snapshot_items WHERE snapshot = ? AND position = ?",
                (int(number), int(position)),
            )
            if position == "-1":
                c.execute(
                    "UPDATE memory_snapshots SET name = '', metadata = '{}' WHERE number = ?",
                    (int(number),),
                )
        c.execute(
            "DELETE FROM memory_snapshots "
            "WHERE (user_id IN (SELECT value FROM json_each(:persons)) "
            "OR session_id IN (SELECT value FROM json_each(:sessions))) "
            "AND NOT EXISTS (SELECT 1 FROM memory_snapshot_items WHERE snapshot = number) "
            "AND (:until IS NULL OR created_at <= :until)",
            {
                "persons": json.dumps(sorted(scope.persons)),
                "sessions": json.dumps(sorted(scope.sessions)),
                "until": scope.until,
            },
        )
        return {"snapshots": len(keys)}


PLACES: tuple[Place, ...] = (Snapshots(),)
