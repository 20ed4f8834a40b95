"""Where memory may hold what is to be forgotten: memories, the ledger, the sessions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import apsw

from sonia.forgetting import ERASED, FORGOTTEN, Key, Place, Scope, Whole
from sonia.memory import store
from sonia.types import DEFAULT_USER

_UNTIL = "(:until IS NULL OR {} <= :until)"
_OTHERS = """
SELECT id FROM memory_sessions WHERE user_id NOT IN (SELECT value FROM json_each(:users))
UNION SELECT DISTINCT session_id FROM memory_events
WHERE session_id IS NOT NULL AND user_id NOT IN (SELECT value FROM json_each(:users))
    AND user_id <> :forgotten
"""
_OF_PERSONS = f"""
SELECT id FROM memory_sessions
WHERE user_id IN (SELECT value FROM json_each(:persons)) AND {_UNTIL.format("created_at")}
UNION SELECT DISTINCT session_id FROM memory_events
WHERE user_id IN (SELECT value FROM json_each(:persons)) AND session_id IS NOT NULL
    AND session_id NOT IN (SELECT id FROM memory_sessions) AND {_UNTIL.format("at")}
"""  # noqa: S608
_OF_SESSIONS = """
SELECT user_id FROM memory_sessions WHERE id IN (SELECT value FROM json_each(:sessions))
UNION SELECT user_id FROM memory_events WHERE session_id IN (SELECT value FROM json_each(:sessions))
UNION SELECT user_id FROM memory_entries
WHERE session_id IN (SELECT value FROM json_each(:sessions))
"""


def bound(scope: Scope) -> dict[str, Any]:
    """The named parameters of the statements here."""
    sets = ("users", "persons", "sessions", "memories", "documents", "turns")
    named = {name: json.dumps(sorted(getattr(scope, name))) for name in sets}
    return {**named, "until": scope.until, "forgotten": FORGOTTEN}


def widen(c: apsw.Connection, scope: Scope) -> None:
    """Complete what was asked: whose it is, which sessions it takes in, which are others'."""
    if scope.sessions and not scope.users:
        scope.users.update(_column(c, _OF_SESSIONS, scope))
    scope.others.update(_column(c, _OTHERS, scope))
    if scope.persons:
        scope.sessions.update(set(_column(c, _OF_PERSONS, scope)) - scope.others)


def _column(c: apsw.Connection, sql: str, scope: Scope) -> list[str]:
    return [cast(str, row[0]) for row in c.execute(sql, bound(scope))]


class Memories:
    """Rows, versions, vectors; the text index is told what to lose."""

    name = "memories"
    tables: tuple[str, ...] = ("memory_entries", "memory_versions", "memory_attributes")

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT number, id FROM memory_entries"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Persons by their memories; sessions that left memories only."""
        for (user,) in c.execute("SELECT DISTINCT user_id FROM memory_entries").fetchall():
            yield "person", cast(str, user)
        for (session,) in c.execute(
            "SELECT DISTINCT session_id FROM memory_entries WHERE session_id IS NOT NULL"
        ).fetchall():
            yield "session", cast(str, session)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """What is meant, and all that was made from it. A document's chunks go by themselves."""
        widen(c, scope)
        found = {number: id_ for number, id_ in self._asked(c, scope)}
        while more := self._made_from(c, scope, found):
            found.update(more)
        scope.memories.update(found.values())
        numbers = json.dumps(list(found))
        for content, turn_id, document in c.execute(
            "SELECT content, turn_id, document FROM memory_entries "
            "WHERE number IN (SELECT value FROM json_each(:numbers)) UNION ALL "
            "SELECT content, NULL, NULL FROM memory_versions "
            "WHERE number IN (SELECT value FROM json_each(:numbers))",
            {"numbers": numbers},
        ):
            if document is not None:
                scope.phrases.add_quotes(cast(str, content))
            elif telling(cast(str, content)):
                scope.phrases.add(cast(str, content))
            if turn_id is not None:
                scope.turns.add(cast(str, turn_id))
        return found.items()

    def _asked(self, c: apsw.Connection, scope: Scope) -> Iterator[tuple[int, str]]:
        rows = c.execute(
            "SELECT number, id FROM memory_entries "  # noqa: S608
            f"WHERE user_id IN (SELECT value FROM json_each(:users)) AND {_UNTIL} "
            "AND coalesce(document NOT IN (SELECT value FROM json_each(:documents)), 1) AND ("
            "user_id IN (SELECT value FROM json_each(:persons)) "
            "OR session_id IN (SELECT value FROM json_each(:sessions)) "
            "OR id IN (SELECT value FROM json_each(:memories)))".format("recorded_at"),
            bound(scope),
        )
        yield from cast("Iterable[tuple[int, str]]", rows.fetchall())
        if scope.entity:
            yield from _named(c, scope)

    def _made_from(self, c: apsw.Connection, scope: Scope, found: dict[int, str]) -> dict[int, str]:
        rows = c.execute(
            "SELECT number, id, source FROM memory_entries WHERE source LIKE '%made_from%' "
            "AND user_id IN (SELECT value FROM json_each(:users))",
            bound(scope),
        )
        known = scope.memories.union(found.values())
        return {
            cast(int, number): cast(str, id_)
            for number, id_, source in rows
            if number not in found and known.intersection(_made_of(cast(str, source)))
        }

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Erase row, versions and vector of each."""
        (versions,) = c.execute(
            "SELECT count(*) FROM memory_versions WHERE number IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        ).fetchall()[0]
        for number in sorted(cast("Sequence[int]", keys)):  # neighbours share pages
            store.erase(c, number)
        return {"memories": len(keys), "versions": cast(int, versions)}


def telling(content: str) -> bool:
    """Whether these words are enough to know them again elsewhere: no mere "yes"."""
    return len(content) >= 12 or len(content.split()) >= 3


def _made_of(source: str) -> list[str]:
    try:
        made = json.loads(source).get("made_from", [])
    except (ValueError, AttributeError):
        return []
    return [item for item in made if isinstance(item, str)]


def _named(c: apsw.Connection, scope: Scope) -> Iterator[tuple[int, str]]:
    """Memories that name the entity, in any of their versions."""
    rows = c.execute(
        "SELECT e.number, e.id, e.content, e.metadata FROM memory_entries e "
        "WHERE user_id IN (SELECT value FROM json_each(:users)) UNION ALL "
        "SELECT e.number, e.id, v.content, v.metadata "
        "FROM memory_versions v JOIN memory_entries e USING (number) "
        "WHERE user_id IN (SELECT value FROM json_each(:users))",
        bound(scope),
    )
    for number, id_, content, metadata in cast("Iterable[tuple[int, str, str, str]]", rows):
        if scope.entity.within(content) or (
            metadata != "{}" and scope.entity.within_json(metadata)
        ):
            yield number, id_


class Events:
    """The ledger's payloads."""

    name = "events"
    tables: tuple[str, ...] = ("memory_events",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        for number, at, correlation in c.execute(
            "SELECT number, at, correlation_id FROM memory_events"
        ):
            yield cast(int, number), f"{number} {at} {correlation}"

    def named(self, c: apsw.Connection, keys: Sequence[int]) -> dict[Key, str]:
        """These rows."""
        rows = c.execute(
            "SELECT number, at, correlation_id FROM memory_events "
            "WHERE number IN (SELECT value FROM json_each(?))",
            (json.dumps(keys),),
        )
        return {
            cast(int, number): f"{number} {at} {correlation}" for number, at, correlation in rows
        }

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Persons and sessions of the ledger."""
        for (user,) in c.execute("SELECT DISTINCT user_id FROM memory_events").fetchall():
            if user != FORGOTTEN:
                yield "person", cast(str, user)
        for (session,) in c.execute(
            "SELECT DISTINCT session_id FROM memory_events WHERE session_id IS NOT NULL"
        ).fetchall():
            yield "session", cast(str, session)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Rows of the person, session or turn, and those that hold the words."""
        linked = (
            "(user_id IN (SELECT value FROM json_each(:persons)) "
            "OR session_id IN (SELECT value FROM json_each(:sessions)) "
            "OR turn_id IN (SELECT value FROM json_each(:turns)))"
        )
        hint, needles = _hint(scope, "data")
        rows = c.execute(
            f"SELECT number, at, correlation_id, session_id, turn_id, data, {linked} "  # noqa: S608
            "FROM memory_events "
            f"WHERE user_id IN (SELECT value FROM json_each(:users)) AND {_UNTIL} "
            f"AND ({linked} OR (data <> :erased AND ({hint})))".format("at"),
            {**bound(scope), **needles, "erased": ERASED},
        )
        found: dict[Key, str] = {}
        for number, at, correlation, session_id, turn_id, data, is_linked in cast(
            "Iterable[Any]", rows
        ):
            if is_linked or mentioned(scope, data):
                found[number] = f"{number} {at} {correlation}"
                if turn_id is not None:
                    scope.exchanges.add((correlation, session_id))
        return found.items()

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Erase payloads; a forgotten person's rows lose their name and session."""
        numbers = json.dumps(list(keys))
        (held,) = c.execute(
            "SELECT count(*) FROM memory_events "
            "WHERE number IN (SELECT value FROM json_each(?)) AND data <> ?",
            (numbers, ERASED),
        ).fetchall()[0]
        c.execute(
            "UPDATE memory_events SET data = :erased, "
            "session_id = iif(user_id IN (SELECT value FROM json_each(:persons)), "
            "NULL, session_id), "
            "user_id = iif(user_id IN (SELECT value FROM json_each(:persons)) "
            "AND user_id <> :owner, :forgotten, user_id) "
            "WHERE number IN (SELECT value FROM json_each(:numbers))",
            {
                "erased": ERASED,
                "numbers": numbers,
                "persons": json.dumps(sorted(scope.persons)),
                "forgotten": FORGOTTEN,
                "owner": DEFAULT_USER,
            },
        )
        return {"events": cast(int, held)}


class Sessions:
    """The list of sessions, and what is noted with each."""

    name = "sessions"
    tables: tuple[str, ...] = ("memory_sessions",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        for id_, created_at in c.execute("SELECT id, created_at FROM memory_sessions"):
            yield cast(str, id_), f"{id_} {created_at}"

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Persons and sessions with nothing else yet."""
        for id_, user in c.execute("SELECT id, user_id FROM memory_sessions").fetchall():
            yield "person", cast(str, user)
            yield "session", cast(str, id_)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Sessions meant as such, and those whose notes name what is meant."""
        rows = c.execute(
            "SELECT id, created_at, metadata FROM memory_sessions "  # noqa: S608
            f"WHERE user_id IN (SELECT value FROM json_each(:users)) AND {_UNTIL}".format(
                "created_at"
            ),
            bound(scope),
        )
        return [
            (id_, f"{id_} {created_at}")
            for id_, created_at, metadata in cast("Iterable[Any]", rows)
            if id_ in scope.sessions or (metadata != "{}" and mentioned(scope, metadata))
        ]

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Delete the sessions meant; of the others only the notes."""
        whole = json.dumps([key for key in keys if key in scope.sessions])
        c.execute(
            "DELETE FROM memory_sessions WHERE id IN (SELECT value FROM json_each(?))", (whole,)
        )
        c.execute(
            "UPDATE memory_sessions SET metadata = '{}' "
            "WHERE id IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        )
        return {"sessions": len(keys)}


def mentioned(scope: Scope, data: str) -> bool:
    """Whether JSON holds the words."""
    return scope.entity.within_json(data) or scope.phrases.within_json(data)


def _hint(scope: Scope, column: str) -> tuple[str, dict[str, str]]:
    if scope.entity:
        return "1", {}
    return scope.phrases.hint(column)


PLACES: tuple[Place, ...] = (Memories(), Events(), Sessions())
