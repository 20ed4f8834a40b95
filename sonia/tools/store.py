"""The tools' table, and the only SQL that touches it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from sonia.log import redact
from sonia.tools.interface import ActionError, ActionNotFound, KeyReused, Outcome
from sonia.types import Value, now, rfc3339

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

_SAVE = """
INSERT INTO tools_actions (id, tool, status, created_at, session_id, approval_id, outcome)
VALUES (:id, :tool, :status, :created_at, :session_id, :approval_id, :outcome)
ON CONFLICT (id) DO UPDATE SET
    status = excluded.status, approval_id = excluded.approval_id, outcome = excluded.outcome
WHERE NOT erased
"""
_CLAIM = """
INSERT INTO tools_actions (id, tool, status, created_at, idempotency_key, call_hash)
VALUES (:id, :tool, 'running', :created_at, :key, :call_hash)
ON CONFLICT (idempotency_key) DO NOTHING
"""
_CLAIMED = """
SELECT id, call_hash, CASE WHEN status <> 'running' THEN outcome END
FROM tools_actions WHERE idempotency_key = ?
"""
_ENDED = "SELECT outcome FROM tools_actions WHERE status <> 'running'"
_RESTARTED = "Sonia was restarted before this was done. Ask again."


class Claim(Value):
    """Whose an idempotency key is. `outcome` is None while the first call has none yet."""

    mine: bool
    action_id: str
    outcome: Outcome | None = None


class Actions:
    """What was asked, and what became of it. Everything stored is redacted."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def save(
        self, outcome: Outcome, session_id: str | None, *, running: bool = False
    ) -> None:
        """Insert it, or replace what is known of this action.

        With `running` it is what will be believed if this process dies before the real one.
        """
        row = {
            "id": outcome.action_id,
            "tool": outcome.tool,
            "status": "running" if running else outcome.status,
            "created_at": rfc3339(outcome.created_at),
            "session_id": session_id,
            "approval_id": outcome.approval_id,
            "outcome": msgspec.json.encode(clean(msgspec.to_builtins(outcome))).decode(),
        }
        await self._db.write(lambda connection: connection.execute(_SAVE, row).fetchall())

    async def claim(self, key: str, *, action_id: str, tool: str, call_hash: str) -> Claim:
        """Take `key` for this call, once. Raises `KeyReused` if it is another call's."""
        row = {
            "id": action_id,
            "tool": tool,
            "key": key,
            "call_hash": call_hash,
            "created_at": rfc3339(now()),
        }

        def work(connection: apsw.Connection) -> Claim:
            connection.execute(_CLAIM, row)
            found: list[Any] = connection.execute(_CLAIMED, (key,)).fetchall()
            owner, first_hash, outcome = found[0]
            if first_hash != call_hash:
                raise KeyReused(
                    "This idempotency key belongs to another call. Use a new key.",
                    idempotency_key=key,
                )
            return Claim(
                mine=owner == action_id,
                action_id=owner,
                outcome=_decode(outcome) if outcome else None,
            )

        return await self._db.write(work)

    async def release(self, action_id: str) -> None:
        """Forget a claim whose call was refused before it became an action."""
        await self._db.write(
            lambda connection: connection.execute(
                "DELETE FROM tools_actions WHERE id = ? AND outcome IS NULL", (action_id,)
            ).fetchall()
        )

    async def find(self, action_id: str) -> Outcome:
        """Raises `ActionNotFound`, also for one that is running and has no outcome yet."""
        rows = await self._db.read(
            lambda connection: connection.execute(f"{_ENDED} AND id = ?", (action_id,)).fetchall()
        )
        if not rows:
            raise ActionNotFound("No action has this id.", action_id=action_id)
        return _decode(rows[0][0])

    async def newest(self, limit: int) -> tuple[Outcome, ...]:
        """Newest first."""
        rows = await self._db.read(
            lambda connection: connection.execute(
                f"{_ENDED} ORDER BY number DESC LIMIT ?", (limit,)
            ).fetchall()
        )
        return tuple(_decode(text) for (text,) in rows)

    async def settle_left_over(self) -> None:
        """End what an earlier process left open: nobody waits for it any more."""

        def work(connection: apsw.Connection) -> None:
            connection.execute("DELETE FROM tools_actions WHERE outcome IS NULL")
            connection.execute(
                "UPDATE tools_actions SET status = 'failed' WHERE status = 'running'"
            )
            for id_, text in connection.execute(
                "SELECT id, outcome FROM tools_actions WHERE status = 'approval_required'"
            ).fetchall():
                left = msgspec.structs.replace(
                    _decode(text),
                    status="denied",
                    error=ActionError(code="conflict", message=_RESTARTED),
                )
                connection.execute(
                    "UPDATE tools_actions SET status = 'denied', outcome = ? WHERE id = ?",
                    (msgspec.json.encode(left).decode(), id_),
                )

        await self._db.write(work)


def clean(value: Any) -> Any:
    """The same JSON value without anything that is, or looks like, a secret."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, dict):
        return {redact(str(key)): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [clean(item) for item in value]
    return value


def _decode(text: Any) -> Outcome:
    return msgspec.json.decode(text, type=Outcome)
