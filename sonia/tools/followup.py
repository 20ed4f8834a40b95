"""What happens to an action after a person was asked."""

from __future__ import annotations

import asyncio
import contextlib

from sonia.control import Approval, ApprovalNotFound, ApprovalSettled, Control, Decision
from sonia.errors import Conflict, SoniaError
from sonia.tools.attempt import Ending, failure
from sonia.tools.catalogue import Catalogue
from sonia.tools.interface import ActionError, FileChanged, Outcome
from sonia.tools.runner import STOPPED, Runner, outcome_of
from sonia.tools.tasks import Tasks
from sonia.tools.waiting import Action, Waiting
from sonia.types import ApprovalId, now

USED = "Its approval was used for the same action asked for before."


class NotApproved(Conflict):
    """It was asked for and not allowed."""


class FollowUp:
    """Watches approvals, and runs what was approved where that was asked for."""

    def __init__(
        self,
        control: Control,
        catalogue: Catalogue,
        runner: Runner,
        waiting: Waiting,
        tasks: Tasks,
    ) -> None:
        self._control = control
        self._catalogue = catalogue
        self._runner = runner
        self._waiting = waiting
        self._tasks = tasks

    async def wait(self, action: Action, decision: Decision) -> Outcome:
        """Store that `action` waits, watch its approval, and return at once."""
        outcome = outcome_of(action, decision, Ending(status="approval_required"))
        action.outcome = outcome
        self._waiting.add(action)
        await self._runner.save(action, outcome)
        action.watch = self._tasks.begin(self._watch(action, outcome))
        return outcome

    async def redeem(self, action: Action, approval_id: ApprovalId) -> Outcome:
        """Use the approval for `action`, which is then the oldest that waited for it, if any did.

        Raises what control's `redeem` does; then nothing has changed.
        """
        decision = await self._control.redeem(approval_id, action.prepared.plan)
        waited = self._take(approval_id)
        if waited:
            waited.prepared, waited.call = action.prepared, action.call
        return await self._run(waited or action, decision)

    async def withdraw(self, action: Action, reason: str) -> None:
        """Deny it for who asked; the approval goes too, unless another action waits for it."""
        if action.taken or action.outcome is None or action.outcome.approval_id is None:
            return
        action.taken = True
        if action.watch:
            action.watch.cancel()
        if not any(self._waiting.untaken(action.outcome.approval_id)):
            with contextlib.suppress(ApprovalSettled, ApprovalNotFound):
                await self._control.withdraw(action.outcome.approval_id, reason)
        await self._deny(action, reason)

    async def _watch(self, action: Action, asked: Outcome) -> None:
        assert asked.approval_id  # noqa: S101  it waits for one
        try:
            approval = await self._control.decided(asked.approval_id)
            if approval.state == "approved" and action.call.follow_up and not action.taken:
                await self._follow(action, approval)
            elif approval.state in ("approved", "consumed"):
                await self._expire(action, approval)
            elif not action.taken:
                action.taken = True
                await self._deny(action, _reason(approval))
        except SoniaError as error:
            if not action.done.is_set():
                action.taken = True
                await self._settle(action, asked.decision, failure(error))

    async def _follow(self, action: Action, approval: Approval) -> None:
        """Run it as it was planned, if the files are still what they were."""
        plan = action.prepared.plan
        fresh = await self._catalogue.prepare(
            plan.tool, plan.arguments, plan.origins, plan.session_id
        )
        if fresh.plan.digests != plan.digests:
            changed = sorted(dict(set(fresh.plan.digests.items()) ^ set(plan.digests.items())))
            raise FileChanged(
                f"{', '.join(changed)} changed since this was planned. Nothing was done; ask again."
            )
        if action.taken:
            return
        try:
            decision = await self._control.redeem(approval.id, plan)
        except ApprovalSettled as error:
            if error.details.get("state") != "consumed":
                raise
            if not action.taken:  # a rival was faster, and has not come to say so yet
                action.taken = True
                await self._deny(action, USED)
            return
        self._take(approval.id, by=action)
        await self._run(action, decision)

    async def _expire(self, action: Action, approval: Approval) -> None:
        """Whoever asked comes back with the approval, or it lapses."""
        left_s = max((approval.expires_at - now()).total_seconds(), 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await action.done.wait()
        if not action.taken:
            action.taken = True
            await self._deny(action, "It was approved and not used in time.")

    def _take(self, approval_id: ApprovalId, by: Action | None = None) -> Action | None:
        """Take the action that the approval goes to; the others that waited for it lose it."""
        rivals = [action for action in self._waiting.untaken(approval_id) if action is not by]
        taken = by or (rivals.pop(0) if rivals else None)
        if taken:
            taken.taken = True
            if taken is not by and taken.watch:
                taken.watch.cancel()
        for loser in rivals:
            loser.taken = True
            if loser.watch:
                loser.watch.cancel()
            self._tasks.begin(self._deny(loser, USED))
        return taken

    async def _run(self, action: Action, decision: Decision) -> Outcome:
        outcome: Outcome | None = None
        try:
            outcome = await self._runner.run(action, decision)
            return outcome
        finally:
            self._waiting.settle(action, outcome or outcome_of(action, decision, STOPPED))

    async def _deny(self, action: Action, reason: str) -> None:
        assert action.outcome  # noqa: S101  it waits, so it has one
        error = ActionError(code=NotApproved.code, message=reason)
        await self._settle(action, action.outcome.decision, Ending(status="denied", error=error))

    async def _settle(self, action: Action, decision: Decision, ending: Ending) -> None:
        outcome = outcome_of(action, decision, ending)
        await self._runner.save(action, outcome)
        self._waiting.settle(action, outcome)


def _reason(approval: Approval) -> str:
    match approval.state:
        case "denied":
            said = f": {approval.answer_reason}" if approval.answer_reason else "."
            return f"It was denied{said}"
        case "expired":
            return "Nobody answered in time."
        case _:
            return f"It was cancelled: {approval.answer_reason or 'who asked went away'}."
