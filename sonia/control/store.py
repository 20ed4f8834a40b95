"""Approvals and policy in SQL. Functions of a connection, for inside one transaction.

    pending ──► approved ──► consumed
       │            ├──────► expired | cancelled
       └──► denied | expired | cancelled

Every arrow is one UPDATE that names the state it leaves, the time it must be before and,
to consume, the exact call: whatever races, one wins and the rest see what became of it.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.control.codes import new_code
from sonia.control.interface import (
    Approval,
    ApprovalNotFound,
    ApprovalState,
    Mode,
    Plan,
    Policy,
    Rule,
)
from sonia.control.ledger import stored
from sonia.control.preview import visible
from sonia.control.scope import canonical
from sonia.types import ApprovalId, new_id

if TYPE_CHECKING:
    import apsw

UNBOUNDED = 3  # from this tier on a yes needs the code
Session = tuple[str | None]
ANY: Session = ("*",)
OPEN_STATES = ("pending", "approved")

INSERT = """
    INSERT INTO control_approvals (id, state, tool, arguments, preview, risk_tier, scope_hash,
                                   reason, created_at, expires_at, session_id, code)
    VALUES (:id, 'pending', :tool, :arguments, :preview, :risk_tier, :scope_hash,
            :reason, :created_at, :expires_at, :session_id, :code)
"""
SETTLE = """
    UPDATE control_approvals SET state = :state, answered_by = :by, answer_reason = :reason
    WHERE id = :id
      AND state = 'pending'
      AND expires_at > :now
    RETURNING id
"""
CONSUME = """
    UPDATE control_approvals SET state = 'consumed'
    WHERE id = :id
      AND state = 'approved'
      AND expires_at > :now
      AND scope_hash = :scope_hash
      AND session_id IS :session_id
    RETURNING id
"""
# One more wrong code; the last one that is allowed is a no.
MISTAKE = """
    UPDATE control_approvals
    SET tries = tries + 1,
        state = iif(tries + 1 >= :most, 'denied', state),
        answered_by = iif(tries + 1 >= :most, :by, answered_by),
        answer_reason = iif(tries + 1 >= :most, 'The code was wrong too often.', answer_reason)
    WHERE id = :id
      AND state = 'pending'
      AND expires_at > :now
    RETURNING tries
"""
CODE = "SELECT code FROM control_approvals WHERE id = :id"
WITHDRAW = """
    UPDATE control_approvals SET state = 'cancelled', answer_reason = :reason
    WHERE id = :id
      AND state IN ('pending', 'approved')
      AND expires_at > :now
    RETURNING id
"""
LAPSE = """
    UPDATE control_approvals SET state = 'expired'
    WHERE id = :id
      AND state IN ('pending', 'approved')
    RETURNING id
"""
CANCEL_OPEN = """
    UPDATE control_approvals SET state = 'cancelled', answer_reason = :reason
    WHERE state IN ('pending', 'approved')
    RETURNING id
"""
# An open row whose time is over is expired for whoever looks, marked so already or not.
ONE = """
    SELECT *, CASE WHEN state IN ('pending', 'approved') AND expires_at <= :now
                   THEN 'expired' ELSE state END AS state_now
    FROM control_approvals WHERE id = :id
"""
NEWEST = """
    SELECT *, CASE WHEN state IN ('pending', 'approved') AND expires_at <= :now
                   THEN 'expired' ELSE state END AS state_now
    FROM control_approvals WHERE :state IS NULL OR state_now = :state
    ORDER BY number DESC LIMIT :limit
"""
SAME_QUESTION = """
    SELECT *, state AS state_now FROM control_approvals
    WHERE state = 'pending' AND expires_at > :now AND scope_hash = :scope_hash
      AND session_id IS :session_id AND risk_tier = :risk_tier AND preview = :preview
"""
PENDING = """
    SELECT count(*), min(expires_at) FROM control_approvals
    WHERE state = 'pending' AND expires_at > :now AND (:all OR session_id IS :session_id)
"""


def insert(
    connection: apsw.Connection,
    plan: Plan,
    *,
    risk_tier: int,
    scope_hash: str,
    reason: str,
    now: dt.datetime,
    ttl_s: float,
) -> Approval:
    """Open a question."""
    approval_id = ApprovalId(new_id("apr"))
    connection.execute(
        INSERT,
        {
            "id": approval_id,
            "tool": plan.tool,
            "arguments": canonical(plan.arguments).decode(),
            "preview": plan.preview,
            "risk_tier": risk_tier,
            "scope_hash": scope_hash,
            "reason": reason,
            "created_at": stored(now),
            "expires_at": stored(now + dt.timedelta(seconds=ttl_s)),
            "session_id": plan.session_id,
            "code": new_code(),
        },
    )
    return find(connection, approval_id, now)


def find(connection: apsw.Connection, approval_id: str, now: dt.datetime) -> Approval:
    """Raises `ApprovalNotFound`."""
    found = _approvals(connection, ONE, {"id": approval_id, "now": stored(now)})
    if not found:
        raise ApprovalNotFound("No approval has this id.", approval_id=approval_id)
    return found[0]


def same_question(
    connection: apsw.Connection, plan: Plan, *, risk_tier: int, scope_hash: str, now: dt.datetime
) -> Approval | None:
    """The pending approval that asks exactly this already, in the same session."""
    found = _approvals(
        connection,
        SAME_QUESTION,
        {
            "scope_hash": scope_hash,
            "session_id": plan.session_id,
            "risk_tier": risk_tier,
            "preview": plan.preview,
            "now": stored(now),
        },
    )
    return found[0] if found else None


def newest(
    connection: apsw.Connection, *, state: ApprovalState | None, limit: int, now: dt.datetime
) -> tuple[Approval, ...]:
    """By the order in which they were asked, whatever the clock said."""
    return tuple(
        _approvals(connection, NEWEST, {"state": state, "limit": max(0, limit), "now": stored(now)})
    )


def pending(
    connection: apsw.Connection, now: dt.datetime, session: Session = ANY
) -> tuple[int, dt.datetime | None]:
    """How many wait for an answer, in one session or any, and when the first of them expires."""
    every = session is ANY
    bindings = {"now": stored(now), "all": every, "session_id": None if every else session[0]}
    ((count, first),) = connection.execute(PENDING, bindings)
    return count, dt.datetime.fromisoformat(first) if first else None


def change(connection: apsw.Connection, sql: str, **bindings: Any) -> list[ApprovalId]:
    """Follow one arrow; return the ids of the approvals that went along it."""
    return [ApprovalId(str(row[0])) for row in connection.execute(sql, bindings)]


def code(connection: apsw.Connection, approval_id: str) -> str:
    """The confirmation code of an approval that exists."""
    ((found,),) = connection.execute(CODE, {"id": approval_id})
    return str(found)


def mistake(connection: apsw.Connection, approval_id: str, *, by: str, now: str, most: int) -> int:
    """Count a wrong code; return how many tries are left, and none of one that is settled."""
    bindings = {"id": approval_id, "by": by, "now": now, "most": most}
    found = connection.execute(MISTAKE, bindings).fetchone()
    return most - int(found[0]) if found else 0


def policy(connection: apsw.Connection) -> Policy:
    """The rules in force."""
    ((version, rules),) = connection.execute("SELECT version, rules FROM control_policy")
    return Policy(version=version, rules=msgspec.json.decode(rules, type=tuple[Rule, ...]))


def mode(connection: apsw.Connection) -> Mode:
    """How Sonia is set."""
    ((found,),) = connection.execute("SELECT mode FROM control_standing")
    return msgspec.convert(found, Mode)  # type: ignore[no-any-return]


def set_mode(connection: apsw.Connection, mode: Mode) -> None:
    """Set her otherwise."""
    connection.execute("UPDATE control_standing SET mode = ?", (mode,))


def count_rules_file(connection: apsw.Connection, digest: str) -> bool:
    """Take note of the rules file; a changed one is another policy. Return whether it changed."""
    changed = connection.execute(
        "UPDATE control_standing SET rules_digest = ?1 WHERE rules_digest <> ?1 RETURNING id",
        (digest,),
    ).fetchall()
    if changed:
        connection.execute("UPDATE control_policy SET version = version + 1")
    return bool(changed)


def replace_policy(connection: apsw.Connection, rules: tuple[Rule, ...]) -> Policy:
    """Put `rules` in force under the next version."""
    connection.execute(
        "UPDATE control_policy SET version = version + 1, rules = ?",
        (msgspec.json.encode(rules).decode(),),
    )
    return policy(connection)


def _approvals(connection: apsw.Connection, sql: str, bindings: dict[str, Any]) -> list[Approval]:
    cursor = connection.execute(sql, bindings)
    return [
        _approval(dict(zip((name for name, _ in cursor.get_description()), row, strict=True)))
        for row in cursor
    ]


def _approval(row: dict[str, Any]) -> Approval:
    for kept in ("number", "code", "tries"):
        del row[kept]
    row["needs_code"] = row["risk_tier"] >= UNBOUNDED
    row["state"] = row.pop("state_now")
    row["arguments"] = msgspec.json.decode(row["arguments"])
    row["preview"] = visible(row["preview"])
    return msgspec.convert(row, Approval)
