"""Responses that were stored: to be read, gone on from, deleted; and forgotten with a person."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.db import Database
from sonia.errors import NotFound
from sonia.forgetting import Key, Scope, Whole
from sonia.types import Message, Value

if TYPE_CHECKING:
    import apsw

KEPT_S = 30 * 24 * 3600  # as long as OpenAI keeps them
_MICROS = 1_000_000
_messages = msgspec.json.Decoder(tuple[Message, ...])


class ResponseNotFound(NotFound):
    """No such response, or no longer, or somebody else's."""


class Kept(Value):
    """One response. `created_at` is in seconds since 1970."""

    id: str
    user_id: str
    session_id: str | None
    created_at: int
    body: dict[str, Any]
    input: list[dict[str, Any]]
    messages: tuple[Message, ...]


class Responses:
    """The stored ones. `user_id` is whose key asks; without keys everything may be read."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def keep(self, kept: Kept) -> None:
        """Durable when it returns. What is too old goes on the way."""
        await self._db.write(partial(_insert, kept=kept, oldest=int(time.time()) - KEPT_S))

    async def find(self, response_id: str, user_id: str | None) -> Kept:
        """Raises `ResponseNotFound`."""
        kept = await self._db.read(partial(_select, response_id=response_id))
        if kept is None or user_id not in (None, kept.user_id):
            raise _missing(response_id)
        return kept

    async def delete(self, response_id: str, user_id: str | None) -> None:
        """Raises `ResponseNotFound`."""
        await self.find(response_id, user_id)
        await self._db.write(partial(_delete, ids=[response_id]))


class StoredResponses:
    """The place of what was said over `/v1/responses`, for forgetting."""

    name = "responses"
    tables: tuple[str, ...] = ("gateway_responses",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM gateway_responses"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """The persons who have some."""
        for (user_id,) in cast(Any, c.execute("SELECT DISTINCT user_id FROM gateway_responses")):
            yield "person", user_id

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """All of a person and of a session, and of the users' those that hold the words."""
        rows = c.execute(
            "SELECT id, user_id, session_id, created_at, body, input, messages "
            "FROM gateway_responses"
        )
        for id_, user_id, session_id, created_at, *held in cast("Iterable[Any]", rows):
            if scope.until is not None and created_at * _MICROS > scope.until:
                continue
            if (
                user_id in scope.persons
                or session_id in scope.sessions
                or (user_id in scope.users and any(_mentioned(scope, text) for text in held))
            ):
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Delete them."""
        _delete(c, cast("Sequence[str]", keys))
        return {"responses": len(keys)}


def _mentioned(scope: Scope, text: str) -> bool:
    return scope.entity.within_json(text) or scope.phrases.within_json(text)


def _insert(c: apsw.Connection, kept: Kept, oldest: int) -> None:
    c.execute("DELETE FROM gateway_responses WHERE created_at < ?", (oldest,))
    encode = msgspec.json.encode
    c.execute(
        "INSERT INTO gateway_responses "
        "(id, user_id, session_id, created_at, body, input, messages) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            kept.id,
            kept.user_id,
            kept.session_id,
            kept.created_at,
            encode(kept.body).decode(),
            encode(kept.input).decode(),
            encode(kept.messages).decode(),
        ),
    )


def _select(c: apsw.Connection, response_id: str) -> Kept | None:
    row: Any = c.execute(
        "SELECT id, user_id, session_id, created_at, body, input, messages "
        "FROM gateway_responses WHERE id = ?",
        (response_id,),
    ).fetchone()
    if row is None:
        return None
    id_, user_id, session_id, created_at, body, given, messages = row
    return Kept(
        id=id_,
        user_id=user_id,
        session_id=session_id,
        created_at=created_at,
        body=msgspec.json.decode(body),
        input=msgspec.json.decode(given),
        messages=_messages.decode(messages),
    )


def _delete(c: apsw.Connection, ids: Sequence[str]) -> None:
    c.executemany("DELETE FROM gateway_responses WHERE id = ?", [(id_,) for id_ in ids])


def _missing(response_id: str) -> ResponseNotFound:
    return ResponseNotFound(f"Response with id '{response_id}' not found.", field="response_id")


PLACES = (StoredResponses(),)
