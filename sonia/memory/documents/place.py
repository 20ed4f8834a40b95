"""Documents, as a place of what is to be forgotten. Their chunks are memories, and go as such."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import apsw

from sonia.forgetting import Key, Scope, Whole
from sonia.memory.places import bound, widen


class DocumentsPlace:
    """Comes before the memories: it names the chunks of what it finds to them."""

    name = "documents"

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT number, id FROM memory_documents"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """The persons and sessions that documents are of."""
        rows = c.execute("SELECT DISTINCT user_id, session_id FROM memory_documents").fetchall()
        for user, session in rows:
            yield "person", cast(str, user)
            if session is not None:
                yield "session", cast(str, session)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Documents of the person or session, and those that the entity is in the title of."""
        widen(c, scope)
        rows = c.execute(
            "SELECT number, id, title, name, source, "
            "user_id IN (SELECT value FROM json_each(:persons)) "
            "OR coalesce(session_id IN (SELECT value FROM json_each(:sessions)), 0) "
            "FROM memory_documents WHERE user_id IN (SELECT value FROM json_each(:users)) "
            "AND (:until IS NULL OR recorded_at <= :until)",
            bound(scope),
        )
        found = {
            cast(int, number): cast(str, id_)
            for number, id_, *told, whole in rows.fetchall()
            if whole
            or (scope.entity and any(scope.entity.within(str(text or "")) for text in told))
        }
        chunks = c.execute(
            "SELECT id FROM memory_entries WHERE document IN (SELECT value FROM json_each(?))",
            (json.dumps(list(found.values())),),
        )
        scope.memories.update(cast(str, row[0]) for row in chunks)
        return found.items()

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Erase what is known of them."""
        c.executemany("DELETE FROM memory_documents WHERE number = ?", [(key,) for key in keys])
        return {"documents": len(keys)}
