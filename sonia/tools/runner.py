"""From a decision to an outcome: the ledger before, the run, the ledger after."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import msgspec

from sonia.config import OpenClaw
from sonia.control import Control, Decision, LedgerDown
from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.tools.attempt import Ending, attempt, failure
from sonia.tools.interface import ActionError, Asked, Call, Outcome
from sonia.tools.journal import Journal
from sonia.tools.letters import Letters
from sonia.tools.store import Actions, clean
from sonia.tools.tasks import Tasks
from sonia.tools.tool import Grant
from sonia.tools.waiting import Action

RISKY_TIER = 2
MAX_RECORDED_CHARS = 500
STOPPED = Ending(
    status="failed",
    error=ActionError(
        code="unavailable", message="It was stopped before it finished; it may be half done."
    ),
)


class Runner:
    """Runs what was decided, and writes down what was. `tasks` outlives every caller."""

    def __init__(
        self,
        config: OpenClaw,
        control: Control,
        actions: Actions,
        journal: Journal,
        letters: Letters,
        tasks: Tasks,
    ) -> None:
        self._config = config
        self._control = control
        self._actions = actions
        self._journal = journal
        self._letters = letters
        self._tasks = tasks
        self._log = get_logger("openclaw")

    async def run(self, action: Action, decision: Decision) -> Outcome:
        """Run it once and return what became of it.

        For tier 2 and above nothing runs unless the ledger has it first. Cancelling stops the
        tool, and that is written down too.
        """
        started_s = time.perf_counter()
        grant = Grant(
            digests=action.prepared.plan.digests,
            timeout_s=self._timeout_s(action),
            action_id=action.id,
            asked=_asked(action.call),
        )
        try:
            if decision.risk_tier >= RISKY_TIER:
                await self._announce(action, decision)
                before = None
            else:
                before = self._tasks.begin(self._note("tool.started", _account(action)))
            await self._keep(action, grant)
            ending = await attempt(action.prepared, grant, self._config.max_output_bytes)
            if before:
                await before
        except asyncio.CancelledError:
            await self.surely(self._end(action, decision, STOPPED, started_s, grant))
            raise
        except SoniaError as error:
            ending = failure(error)
        return await self.surely(self._end(action, decision, ending, started_s, grant))

    async def surely(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        """Do `work` to its end even if who waits for it is cancelled."""
        return await asyncio.shield(self._tasks.begin(work))

    async def save(self, action: Action, outcome: Outcome) -> Outcome:
        """Store an outcome. What happened has happened: a full disk is logged, not raised."""
        try:
            await self._actions.save(outcome, action.call.session_id)
        except SoniaError as error:
            self._log.error("outcome not stored", action_id=action.id, why=error.message)
        return outcome

    async def _keep(self, action: Action, grant: Grant) -> None:
        """Write down what undoing will need, before there is anything to undo."""
        tool = action.prepared.tool
        if tool.undoes:
            kept = await tool.keep(action.prepared.args, grant)
            await self._journal.add(action.id, tool.name, kept)

    async def _announce(self, action: Action, decision: Decision) -> None:
        provisional = outcome_of(action, decision, STOPPED)
        await asyncio.gather(
            self._control.record("tool.started", _account(action)),
            self._actions.save(provisional, action.call.session_id, running=True),
            self._letters.begin(action),
        )

    async def _end(
        self, action: Action, decision: Decision, ending: Ending, started_s: float, grant: Grant
    ) -> Outcome:
        outcome = msgspec.structs.replace(
            outcome_of(action, decision, ending),
            duration_ms=round((time.perf_counter() - started_s) * 1000, 2),
            sent=grant.receipt.sent(),
            undoable=action.prepared.tool.undoes and ending.status == "executed",
        )
        account = {
            "action_id": action.id,
            "tool": outcome.tool,
            "status": outcome.status,
            "duration_ms": outcome.duration_ms,
            "verified": (outcome.verification or {}).get("ok"),
            "error": outcome.error.code if outcome.error else None,
        }
        for sent in outcome.sent:
            facts = {name: _brief(value) for name, value in msgspec.structs.asdict(sent).items()}
            await self._note("egress", {"action_id": action.id, "tool": outcome.tool, **facts})
        await asyncio.gather(
            self._note("tool.finished", account),
            self.save(action, outcome),
            self._remember(action, outcome),
        )
        return outcome

    async def _remember(self, action: Action, outcome: Outcome) -> None:
        """An effect that failed is kept as a dead letter; one that was made is not."""
        try:
            if outcome.error is None and outcome.risk >= RISKY_TIER:
                await self._letters.done(action)
            elif outcome.error is not None and outcome.risk > 0:
                await self._letters.failed(action, outcome.error.message)
        except SoniaError as error:
            self._log.error("dead letter not kept", action_id=action.id, why=error.message)

    async def _note(self, kind: str, account: dict[str, Any]) -> None:
        try:
            await self._control.record(kind, account)
        except LedgerDown as error:
            self._log.error("ledger not written", fact=kind, why=error.message, account=account)

    def _timeout_s(self, action: Action) -> float:
        asked_s = action.prepared.tool.timeout_s(action.prepared.args)
        if action.call.timeout_ms is None:
            return float(asked_s or self._config.timeout_s)
        called_s = action.call.timeout_ms / 1000
        return min(asked_s, called_s) if asked_s else called_s


def _asked(call: Call) -> Asked:
    return Asked(origins=call.origins, session_id=call.session_id, user_id=call.user_id)


def outcome_of(action: Action, decision: Decision, ending: Ending) -> Outcome:
    """An ending, with what it is the ending of."""
    return Outcome(
        action_id=action.id,
        status=ending.status,
        tool=action.prepared.plan.tool,
        risk=decision.risk_tier,
        decision=decision,
        created_at=action.created_at,
        result=ending.result,
        verification=ending.verification,
        preview=action.prepared.plan.preview,
        approval_id=decision.approval_id,
        expires_at=decision.expires_at,
        error=ending.error,
    )


def _account(action: Action) -> dict[str, Any]:
    plan = action.prepared.plan
    return {
        "action_id": action.id,
        "tool": plan.tool,
        "arguments": {name: _brief(value) for name, value in plan.arguments.items()},
        "digests": plan.digests,
        "session_id": plan.session_id,
    }


def _brief(value: Any) -> Any:
    value = clean(value)
    if isinstance(value, str) and len(value) > MAX_RECORDED_CHARS:
        return f"{value[:MAX_RECORDED_CHARS]}… ({len(value)} characters)"
    return value
