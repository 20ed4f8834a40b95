"""Where control may hold what is to be forgotten: the ledger's data, and questions to a person."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from sonia.control import ledger
from sonia.control.ledger import ERASING, Stamp
from sonia.control.store import OPEN_STATES
from sonia.forgetting import ERASED, Key, Place, Scope, Whole

if TYPE_CHECKING:
    import apsw

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
WHY = "What it was about was forgotten."


class _Noted(msgspec.Struct):
    """What a ledger row names, of all that it says."""

    session_id: str | None = None
    action_id: str | None = None
    approval_id: str | None = None
    arguments: dict[str, Any] | None = None


class Audit:
    """The ledger's data: arguments of tools, reasons given."""

    name = "audit"
    tables: tuple[str, ...] = ("control_ledger",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row, by its hash."""
        yield from cast(Any, c.execute("SELECT number, hash FROM control_ledger"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Rows of the sessions and exchanges, and those that hold the words."""
        hint, needles = ("1", {}) if scope.entity else scope.phrases.hint("data")
        rows = c.execute(
            "SELECT number, hash, correlation_id, data FROM control_ledger "  # noqa: S608
            "WHERE data <> :erased AND kind <> :erasing AND (:until IS NULL OR at <= :until) "
            "AND (:whole OR correlation_id IN (SELECT value FROM json_each(:exchanges)) "
            f"OR {hint})",
            {
                "erased": ERASED,
                "erasing": ERASING,
                "until": _until(scope),
                "whole": bool(scope.sessions or scope.persons),
                "exchanges": json.dumps([correlation for correlation, _ in scope.exchanges]),
                **needles,
            },
        )
        found: dict[Key, str] = {}
        for number, hash_, correlation, data in cast("Iterable[Any]", rows):
            noted = _noted(data)
            if not _means(scope, noted, correlation, data):
                continue
            found[number] = hash_
            scope.actions.update({noted.action_id} - {None})  # type: ignore[arg-type]
            scope.approvals.update({noted.approval_id} - {None})  # type: ignore[arg-type]
        return found.items()

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Take out the data; the chain still holds."""
        ledger.erase(c, sorted(cast("Sequence[int]", keys)), scope.receipt, _stamp(scope))
        return {"audit": len(keys)}


class Approvals:
    """What was asked of a person; what is open is withdrawn."""

    name = "approvals"
    tables: tuple[str, ...] = ("control_approvals",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM control_approvals"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """Questions of the sessions, and those that hold the words."""
        rows = c.execute(
            "SELECT id, session_id, arguments, preview, reason, answer_reason "
            "FROM control_approvals WHERE :until IS NULL OR created_at <= :until",
            {"until": _until(scope)},
        )
        for id_, session_id, *held in cast("Iterable[Any]", rows):
            said = json.dumps([part for part in held if part])
            if (
                id_ in scope.approvals
                or scope.whole(session_id)
                or (scope.theirs(session_id) and _mentioned(scope, said, held[0]))
            ):
                scope.approvals.add(id_)
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """Blank them; who waits for one that is open is refused."""
        for key in keys:
            withdrawn = c.execute(
                "UPDATE control_approvals SET state = 'cancelled' "  # noqa: S608
                f"WHERE id = ? AND state IN {OPEN_STATES} RETURNING id",
                (key,),
            ).fetchall()
            c.execute(
                "UPDATE control_approvals SET arguments = ?, preview = '', reason = '', "
                "answer_reason = ?, session_id = iif(?, NULL, session_id) WHERE id = ?",
                (ERASED, WHY, bool(scope.persons), key),
            )
            if withdrawn:
                account = {"approval_id": key, "reason": WHY}
                ledger.append(c, "approval.cancelled", account, _stamp(scope))
        return {"approvals": len(keys)}


def _means(scope: Scope, noted: _Noted, correlation: str, data: str) -> bool:
    if noted.session_id in scope.sessions:
        return True
    if not scope.theirs(noted.session_id):
        return False
    linked = scope.whole(noted.session_id) or (correlation, noted.session_id) in scope.exchanges
    return (linked and noted.arguments is not None) or _mentioned(scope, data)


def _mentioned(scope: Scope, *held: str) -> bool:
    return any(scope.entity.within_json(one) or scope.phrases.within_json(one) for one in held)


def _noted(data: str) -> _Noted:
    try:
        return msgspec.json.decode(data, type=_Noted)
    except msgspec.MsgspecError:
        return _Noted()


def _until(scope: Scope) -> str | None:
    return None if scope.until is None else ledger.stored(_moment(scope.until))


def _stamp(scope: Scope) -> Stamp:
    return Stamp(at=_moment(scope.at), correlation_id=scope.receipt)


def _moment(micros: int) -> dt.datetime:
    return EPOCH + dt.timedelta(microseconds=micros)


class Trusts:
    """Trust given in a session: it names the tool and the session, and no words."""

    name = "trust"
    tables: tuple[str, ...] = ("control_trust",)

    def everything(self, c: apsw.Connection) -> Iterable[tuple[Key, str]]:
        """Every row."""
        yield from cast(Any, c.execute("SELECT id, id FROM control_trust"))

    def wholes(self, c: apsw.Connection) -> Iterable[tuple[Whole, str]]:
        """None of its own."""
        return ()

    def concerned(self, c: apsw.Connection, scope: Scope) -> Iterable[tuple[Key, str]]:
        """That of the sessions, and that which came of a question about the words."""
        rows = c.execute("SELECT id, session_id, approval_id FROM control_trust")
        for id_, session_id, approval_id in cast("Iterable[Any]", rows):
            if approval_id in scope.approvals or scope.whole(session_id):
                yield id_, id_

    def erase(self, c: apsw.Connection, keys: Sequence[Key], scope: Scope) -> dict[str, int]:
        """End it."""
        c.executemany("DELETE FROM control_trust WHERE id = ?", [(key,) for key in keys])
        return {"trust": len(keys)}


PLACES: tuple[Place, ...] = (Audit(), Approvals(), Trusts())
