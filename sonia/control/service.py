"""Control over the database: every decision is one transaction, its ledger row included."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sonia.config import EvaOs
from sonia.control import ledger, maintenance, store
from sonia.control.approvals import Approvals
from sonia.control.interface import (
    Approval,
    Decision,
    Explanation,
    LedgerCheck,
    LedgerDown,
    LedgerEntry,
    Maintenance,
    Mode,
    Plan,
    Planner,
    Policy,
    Rule,
    Undo,
)
from sonia.control.journal import Journal
from sonia.control.preview import visible
from sonia.control.risk import READ, UNBOUNDED, Ruling, rule_on
from sonia.control.rules import check_rules, read_file
from sonia.control.scope import scope_hash
from sonia.control.standing import Standing
from sonia.control.vitals import Vitals
from sonia.errors import (
    Forbidden,
    InvalidRequest,
    NotFound,
    PolicyDenied,
    SoniaError,
    Unavailable,
)
from sonia.events import Bus
from sonia.log import get_logger
from sonia.types import Origin, now

if TYPE_CHECKING:
    import apsw

    from sonia.db import Database

RISKY_TIER = 2
MAX_NAME_CHARS = 200
REFUSALS = (NotFound, InvalidRequest, PolicyDenied, Forbidden)


class SqliteControl:
    """Use `open_control`. What has no docstring is told in `Control`."""

    def __init__(self, approvals: Approvals, journal: Journal, standing: Standing) -> None:
        vitals = Vitals()
        self._approvals = approvals
        self._journal = journal
        self._standing = standing
        self._planner: Planner | None = None
        self._log = get_logger("eva-os")
        self.redeem = approvals.redeem
        self.settle = approvals.settle
        self.code = approvals.code
        self.trusts = approvals.trusts
        self.distrust = approvals.distrust
        self.decided = approvals.decided
        self.withdraw = approvals.withdraw
        self.approval = approvals.one
        self.approvals = approvals.newest
        self.record = journal.record
        self.watch = vitals.watch
        self.vitals = vitals.ask
        self.graph = vitals.graph

    async def judge(self, plan: Plan, *, ask: bool = True) -> Decision:
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> tuple[Decision, Approval | None]:
            policy = self._standing.policy(connection)
            scope = scope_hash(plan, policy.version)
            ruling = self._standing.rule(connection, plan, policy, scope)
            question = None
            if ask and ruling.verdict == "approval_required":
                question = self._approvals.ask(connection, plan, ruling, scope, stamp.at)
            decision = _decision(ruling, scope, question)
            ledger.append(connection, "decision", _account(plan, decision), stamp)
            return decision, question

        try:
            decision, question = await self._journal.write(work)
        except LedgerDown as error:
            return await self._unrecorded(plan, error)
        if question:
            await self._approvals.asked(question, stamp.at)
        return decision

    async def _unrecorded(self, plan: Plan, error: LedgerDown) -> Decision:
        """While the ledger is down what is allowed and harmless goes on, and nothing else."""
        policy = await self.policy()
        ruling = rule_on(plan, policy, await self._journal.read(self._standing.situation))
        asks = ruling.verdict == "approval_required"
        kept_still = self._standing.maintenance.on and ruling.tier > READ
        if ruling.tier >= RISKY_TIER or asks or kept_still:
            raise error
        self._log.warning("decided without the ledger", tool=plan.tool, verdict=ruling.verdict)
        return _decision(ruling, scope_hash(plan, policy.version), None)

    async def gate(
        self,
        tool_name: str,
        args: dict[str, Any],
        *,
        origins: tuple[Origin, ...] = ("owner",),
        session_id: str | None = None,
        user_id: str | None = None,
        private: bool = False,
        unattended: bool = False,
    ) -> Decision:
        if self._planner is None:
            raise Unavailable("No tools are connected yet. Try again.")
        try:
            plan = await self._planner.plan(tool_name, args, origins=origins, session_id=session_id)
        except REFUSALS as error:
            return await self._refuse(tool_name, error)
        return await self.judge(
            msgspec.structs.replace(plan, user_id=user_id, private=private, unattended=unattended)
        )

    async def explain(
        self,
        tool_name: str,
        args: dict[str, Any],
        *,
        origins: tuple[Origin, ...] = ("owner",),
        session_id: str | None = None,
        user_id: str | None = None,
        private: bool = False,
        unattended: bool = False,
    ) -> Explanation:
        if self._planner is None:
            raise Unavailable("No tools are connected yet. Try again.")
        mode = await self.mode()
        try:
            plan = await self._planner.plan(tool_name, args, origins=origins, session_id=session_id)
        except REFUSALS as error:
            return Explanation(
                verdict="denied",
                risk_tier=UNBOUNDED,
                rule=_refusal(error),
                reason=error.message,
                mode=mode,
                steps=(error.message,),
            )
        plan = msgspec.structs.replace(
            plan, user_id=user_id, private=private, unattended=unattended
        )

        def work(connection: apsw.Connection) -> Ruling:
            policy = self._standing.policy(connection)
            scope = scope_hash(plan, policy.version)
            return self._standing.rule(connection, plan, policy, scope)

        ruling = await self._journal.read(work)
        return Explanation(
            verdict=ruling.verdict,
            risk_tier=ruling.tier,
            rule=ruling.rule,
            reason=ruling.reason,
            mode=mode,
            steps=ruling.steps,
            preview=visible(plan.preview),
        )

    async def _refuse(self, tool_name: str, error: SoniaError) -> Decision:
        rule = _refusal(error)
        tool = visible(tool_name[:MAX_NAME_CHARS])
        await self.record("decision", {"tool": tool, "verdict": "denied", "rule": rule})
        return Decision(
            verdict="denied",
            risk_tier=UNBOUNDED,
            rule=rule,
            reason=error.message,
            scope_hash="",
        )

    async def mode(self) -> Mode:
        return await self._journal.read(store.mode)

    async def set_mode(self, mode: Mode, *, by: str) -> Mode:
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> list[Any]:
            account = {"by": by, "from": store.mode(connection), "to": mode}
            store.set_mode(connection, mode)
            ledger.append(connection, "mode.changed", account, stamp)
            return self._approvals.cancel_in(connection, "The mode changed.", stamp)

        await self._approvals.ended(await self._journal.write(work))
        return mode

    def maintenance(self) -> Maintenance:
        return self._standing.maintenance

    async def set_maintenance(self, on: bool, *, reason: str, by: str) -> Maintenance:
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> tuple[Maintenance, list[Any]]:
            changed = maintenance.write(connection, on, reason, by, stamp)
            if not on:
                return changed, []
            return changed, self._approvals.cancel_in(connection, "Maintenance began.", stamp)

        changed, cancelled = await self._journal.write(work)
        self._standing.maintenance = changed
        await self._approvals.ended(cancelled)
        return changed

    async def policy(self) -> Policy:
        return await self._journal.read(self._standing.policy)

    async def set_policy(self, rules: tuple[Rule, ...], *, by: str) -> Policy:
        check_rules(rules)
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> tuple[Policy, list[Any]]:
            store.replace_policy(connection, rules)
            policy = self._standing.policy(connection)
            account = {"by": by, "version": policy.version, "rules": _plain(rules)}
            ledger.append(connection, "policy.changed", account, stamp)
            return policy, self._approvals.cancel_in(connection, "The policy changed.", stamp)

        policy, cancelled = await self._journal.write(work)
        await self._approvals.ended(cancelled)
        return policy

    async def ledger(self, *, after: int = 0, limit: int = 100) -> tuple[LedgerEntry, ...]:
        return await self._journal.read(
            lambda connection: ledger.entries(connection, after=after, limit=limit)
        )

    async def verify_ledger(self) -> LedgerCheck:
        return await self._journal.read(ledger.verify)

    def plan_with(self, planner: Planner) -> Undo:
        self._planner = planner

        def undo() -> None:
            if self._planner is planner:
                self._planner = None

        return undo

    async def probe(self) -> dict[str, object]:
        if self._journal.failing:
            await self._journal.write(ledger.touch)
        at = self._journal.now()

        def work(connection: apsw.Connection) -> dict[str, object]:
            number, head = ledger.head(connection)
            return {
                "pending": store.pending(connection, at)[0],
                "ledger_entries": number,
                "ledger_head": head,
                "policy_version": store.policy(connection).version,
            }

        return await self._journal.read(work)


@asynccontextmanager
async def open_control(
    config: EvaOs,
    db: Database,
    *,
    bus: Bus | None = None,
    rules_file: Path | None = None,
    clock: Callable[[], dt.datetime] = now,
) -> AsyncIterator[SqliteControl]:
    """Decide and remember in `db`. Questions that an earlier run left open are cancelled, and
    trust ends. The rules of `rules_file` come before those in `db`; a mistake in it is a
    `ConfigurationError`. What becomes of approvals is told on `bus`.

    `clock` is the wall clock, in any time zone; it decides what is expired, together with the
    event loop's own time.
    """
    journal = Journal(db, clock)
    approvals = Approvals(config, journal, bus or Bus())
    standing = Standing(config, await asyncio.to_thread(read_file, rules_file), clock)
    await journal.write(lambda connection: store.count_rules_file(connection, standing.digest))
    standing.maintenance = await journal.read(maintenance.read)
    await approvals.cancel_all("Sonia was restarted.")
    expiring = asyncio.create_task(approvals.expire(), name="approvals-expire")
    try:
        yield SqliteControl(approvals, journal, standing)
    finally:
        expiring.cancel()
        await asyncio.gather(expiring, return_exceptions=True)
        try:
            await approvals.cancel_all("Sonia was stopped.")
        except LedgerDown as error:  # the next start cancels them
            get_logger("eva-os").error("open approvals not cancelled", reason=error.message)


def _decision(ruling: Ruling, scope: str, question: Approval | None) -> Decision:
    return Decision(
        verdict=ruling.verdict,
        risk_tier=ruling.tier,
        rule=ruling.rule,
        reason=ruling.reason,
        scope_hash=scope,
        approval_id=question.id if question else None,
        expires_at=question.expires_at if question else None,
    )


def _account(plan: Plan, decision: Decision) -> dict[str, Any]:
    """What the ledger keeps of a decision; the arguments are in it as part of the hash."""
    return {
        "tool": visible(plan.tool[:MAX_NAME_CHARS]),
        "verdict": decision.verdict,
        "risk_tier": decision.risk_tier,
        "rule": decision.rule,
        "origins": list(plan.origins),
        "scope_hash": decision.scope_hash,
        "session_id": plan.session_id,
        "approval_id": decision.approval_id,
    }


def _refusal(error: SoniaError) -> str:
    return "unknown-tool" if isinstance(error, NotFound) else "call-refused"


def _plain(rules: tuple[Rule, ...]) -> list[dict[str, str]]:
    named = [msgspec.to_builtins(rule) for rule in rules]
    return [{key: value for key, value in rule.items() if value is not None} for rule in named]
