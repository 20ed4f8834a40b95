"""Trust for a while, in SQL. Functions of a connection, for inside one transaction."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.control.interface import Approval, Plan, Tier, Trust, TrustFor, TrustRefused
from sonia.control.ledger import stored
from sonia.control.risk import UNBOUNDED
from sonia.types import new_id

if TYPE_CHECKING:
    import apsw

INSERT = """
    INSERT INTO control_trust (id, approval_id, tool, scope_hash, risk_tier, session_id, given_by,
                               created_at, expires_at)
    VALUES (:id, :approval_id, :tool, :scope_hash, :risk_tier, :session_id, :given_by,
            :created_at, :expires_at)
"""
COVERS = """
    SELECT 1 FROM control_trust
    WHERE expires_at > :now
      AND tool = :tool
      AND session_id IS :session_id
      AND risk_tier >= :risk_tier
      AND (scope_hash IS NULL OR scope_hash = :scope_hash)
    LIMIT 1
"""
IN_FORCE = """
    SELECT id, iif(scope_hash IS NULL, 'session', 'exact') AS kind, approval_id, tool, risk_tier,
           session_id, given_by, created_at, expires_at
    FROM control_trust WHERE expires_at > :now ORDER BY rowid DESC
"""


def give(
    connection: apsw.Connection,
    approval: Approval,
    kind: TrustFor,
    *,
    by: str,
    now: dt.datetime,
    ttl_s: float,
) -> str:
    """Trust what this approval is about for `ttl_s`; return the id. Raises `TrustRefused`."""
    if approval.risk_tier >= UNBOUNDED:
        raise TrustRefused("What destroys or has no bounds is asked about each time. Approve once.")
    if approval.session_id is None:
        raise TrustRefused("Trust holds within a session, and this call has none. Approve once.")
    trust_id = new_id("tru")
    connection.execute(
        INSERT,
        {
            "id": trust_id,
            "approval_id": approval.id,
            "tool": approval.tool,
            "scope_hash": approval.scope_hash if kind == "exact" else None,
            "risk_tier": approval.risk_tier,
            "session_id": approval.session_id,
            "given_by": by,
            "created_at": stored(now),
            "expires_at": stored(now + dt.timedelta(seconds=ttl_s)),
        },
    )
    return trust_id


def covers(
    connection: apsw.Connection, plan: Plan, *, tier: Tier, scope_hash: str, now: dt.datetime
) -> bool:
    """Whether trust in force is about this call, in its own session."""
    wanted = {
        "now": stored(now),
        "tool": plan.tool,
        "session_id": plan.session_id,
        "risk_tier": tier,
        "scope_hash": scope_hash,
    }
    return connection.execute(COVERS, wanted).fetchone() is not None


def in_force(connection: apsw.Connection, now: dt.datetime) -> tuple[Trust, ...]:
    """Newest first."""
    cursor = connection.execute(IN_FORCE, {"now": stored(now)})
    return tuple(
        msgspec.convert(
            dict(zip((name for name, _ in cursor.get_description()), row, strict=True)), Trust
        )
        for row in cast(Any, cursor)
    )


def take_back(connection: apsw.Connection, trust_id: str | None = None) -> list[str]:
    """End one, or all; return the ids of what ended."""
    found = connection.execute(
        "DELETE FROM control_trust WHERE :id IS NULL OR id = :id RETURNING id", {"id": trust_id}
    )
    return [str(row[0]) for row in found]
