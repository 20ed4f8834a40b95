"""Usage and budgets in the database: all of the router's SQL."""

from __future__ import annotations

from collections.abc import Iterable

import apsw
import msgspec

from sonia.router.interface import UsageRow

ADD_USAGE = """
INSERT INTO router_usage VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
  calls = calls + excluded.calls,
  prompt_tokens = prompt_tokens + excluded.prompt_tokens,
  completion_tokens = completion_tokens + excluded.completion_tokens,
  cached_tokens = cached_tokens + excluded.cached_tokens,
  cost_usd = cost_usd + excluded.cost_usd,
  unpriced_calls = unpriced_calls + excluded.unpriced_calls
"""
READ_USAGE = """
SELECT day, model, sum(calls), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens),
  sum(cost_usd), sum(unpriced_calls)
FROM router_usage WHERE day >= ? AND (? IS NULL OR user_id = ?)
GROUP BY day, model ORDER BY day DESC, model
"""
HOLD = """
INSERT INTO router_budgets (scope, key, day, held_tokens, held_usd) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET held_tokens = excluded.held_tokens, held_usd = excluded.held_usd
"""
GRANT = """
INSERT INTO router_budgets VALUES (?, ?, ?, 0, 0, ?, ?)
ON CONFLICT DO UPDATE SET
  granted_tokens = granted_tokens + excluded.granted_tokens,
  granted_usd = granted_usd + excluded.granted_usd
"""

Purse = tuple[str, str, str]  # scope, key, day


class Tally(msgspec.Struct):
    """What calls took."""

    calls: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost_usd: float = 0.0
    unpriced_calls: int = 0


class Held(msgspec.Struct, frozen=True):
    """A budget's row."""

    tokens: int = 0
    usd: float = 0.0
    granted_tokens: int = 0
    granted_usd: float = 0.0


def add_usage(c: apsw.Connection, tallies: dict[Purse, Tally]) -> None:
    """Add to each (day, model, user)."""
    c.executemany(ADD_USAGE, [(*key, *msgspec.structs.astuple(t)) for key, t in tallies.items()])


def settle(
    c: apsw.Connection, tallies: dict[Purse, Tally], rows: Iterable[tuple[Purse, int, float]]
) -> None:
    """Add what was used, and say what is held."""
    add_usage(c, tallies)
    hold(c, rows)


def read_usage(c: apsw.Connection, since: str, user_id: str | None) -> tuple[UsageRow, ...]:
    """By day and model, newest day first."""
    names = UsageRow.__struct_fields__
    rows = c.execute(READ_USAGE, (since, user_id, user_id))
    return tuple(UsageRow(**dict(zip(names, row, strict=True))) for row in rows)


def read_held(c: apsw.Connection, purse: Purse) -> Held:
    """What is held of one budget."""
    found = c.execute(
        "SELECT held_tokens, held_usd, granted_tokens, granted_usd FROM router_budgets "
        "WHERE scope = ? AND key = ? AND day = ?",
        purse,
    ).fetchone()
    return Held(*found) if found else Held()


def hold(c: apsw.Connection, rows: Iterable[tuple[Purse, int, float]]) -> None:
    """Say what may be gone of each."""
    c.executemany(HOLD, [(*purse, tokens, usd) for purse, tokens, usd in rows])


def grant(c: apsw.Connection, purse: Purse, tokens: int, usd: float) -> None:
    """Allow more of one."""
    c.execute(GRANT, (*purse, tokens, usd))


def forget_users(c: apsw.Connection, user_ids: tuple[str, ...], until: str = "9999-12-31") -> None:
    """Keep the sums up to the day `until`, not whose they were."""
    for user_id in user_ids:
        these = (user_id, until)
        rows = c.execute(
            "SELECT * FROM router_usage WHERE user_id = ? AND day <= ?", these
        ).fetchall()
        c.execute("DELETE FROM router_usage WHERE user_id = ? AND day <= ?", these)
        c.executemany(ADD_USAGE, [(day, model, "", *counts) for day, model, _, *counts in rows])
        c.execute("DELETE FROM router_budgets WHERE scope = 'user' AND key = ? AND day <= ?", these)


def forget_sessions(c: apsw.Connection, session_ids: tuple[str, ...]) -> None:
    """Their budgets go; a session that goes on begins anew."""
    c.executemany(
        "DELETE FROM router_budgets WHERE scope = 'session' AND key = ?",
        [(session_id,) for session_id in session_ids],
    )
