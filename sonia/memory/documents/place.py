"""Documents, as a place of what is to be forgotten. Their chunks are memories, and go as such:

those of a document that is meant as such some at a time, behind a task; none is found any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import apsw

from sonia.forgetting import Key, Scope, Whole, bury, tombstone
from sonia.memory.documents import shelf
from sonia.memory.places import bound, widen


class DocumentsPlace:
    """Comes before the memories: it names the chunks of what it finds to them."""

    name = "documents"
    tables: tuple[str, ...] = ("memory_documents",)

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
        """Those meant, of the person or session, and those that the entity is in the title of."""
        widen(c, scope)
        rows = c.execute(
            "SELECT number, id, title, name, source, "
            "user_id IN (SELECT value FROM json_each(:persons)) "
            "OR coalesce(session_id IN (SELECT value FROM json_each(:sessions)), 0) "
            "OR (id IN (SELECT value FROM json_each(:documents)) AND state <> 'erasing') "
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
        """Erase what is known of them; of those meant as such, the chunks are still to go."""
        counts = {"documents": len(keys)}
        rows = c.execute(
            "SELECT number, id FROM memory_documents "
            "WHERE number IN (SELECT value FROM json_each(?))",
            (json.dumps(list(keys)),),
        ).fetchall()
        for number, id_ in cast("list[tuple[int, str]]", rows):
            if id_ in scope.documents:
                counts["chunks"] = counts.get("chunks", 0) + _condemn(c, id_, scope.at)
            else:
                c.execute("DELETE FROM memory_documents WHERE number = ?", (number,))
        return counts


def _condemn(c: apsw.Connection, document_id: str, at: int) -> int:
    """Have none of it found; a backup is told of every chunk now. Return how many these are."""
    chunks = c.execute("SELECT id FROM memory_entries WHERE document = ?", (document_id,))
    bury(c, {tombstone("memories", cast(str, row[0])): at for row in chunks.fetchall()})
    return shelf.condemn(c, document_id)
