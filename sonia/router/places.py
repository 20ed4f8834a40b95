"""Where the router keeps whose calls were whose: usage by person, budgets by person and session.

What was used stays counted; whose it was is forgotten.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from sonia.forgetting import Key, Place, Scope, Whole
from sonia.router import ledger

if TYPE_CHECKING:
    import apsw

_KNOWN = """
SELECT 'person', user_id FROM router_usage WHERE user_id <> ''
UNION SELECT 'person', key FROM router_budgets WHERE scope = 'user'
UNION SELECT 'session', key FROM router_budgets WHERE scope = 'session'
"""
LAST_DAY = "9999-12-31"


class Accounts:
    """Rows are persons and sessions, each with all of its sums."""

    name = "router_accounts"
    tables: tuple[str, ...] = ("router_usage", "router_budgets")

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """None by itself: what is erased here goes with its person or session."""
        return ()

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """Who is known here."""
        for whole, name in c.execute(_KNOWN).fetchall():
            yield cast(Whole, whole), cast(str, name)

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Persons and sessions that go whole."""
        for whole, name in self.wholes(c):
            if name in (scope.persons if whole == "person" else scope.sessions):
                yield f"{whole}:{name}", name

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Take the names off the sums; how many had some."""
        named = [str(key).partition(":") for key in keys]
        persons = tuple(name for whole, _, name in named if whole == "person")
        sessions = tuple(name for whole, _, name in named if whole == "session")
        until = LAST_DAY
        if scope.until is not None:
            moment = dt.datetime.fromtimestamp(scope.until / 1e6, dt.UTC)
            until = moment.date().isoformat()
        ledger.forget_users(c, persons, until)
        ledger.forget_sessions(c, sessions)
        return {self.name: len(named)}


PLACES: tuple[Place, ...] = (Accounts(),)
