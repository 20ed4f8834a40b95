"""Questions to a person: asked, answered, used once, or over.

What is decided here is decided by one UPDATE of `store`, with its ledger row in the same
transaction; waiting is told afterwards, so nobody hears of an answer that was not kept.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from typing import TYPE_CHECKING, Any

from sonia.config import EvaOs
from sonia.control import ledger, store
from sonia.control import trust as granted
from sonia.control.codes import TRIES, fits
from sonia.control.deadlines import Deadlines
from sonia.control.interface import (
    Approval,
    ApprovalSettled,
    ApprovalState,
    ApprovalUnanswered,
    CodeNeeded,
    Decision,
    LedgerDown,
    Plan,
    ScopeMismatch,
    TooManyPending,
    Trust,
    TrustFor,
    TrustNotFound,
    VoiceForbidden,
)
from sonia.control.journal import Journal
from sonia.control.ledger import Stamp
from sonia.control.risk import Ruling
from sonia.control.scope import scope_hash
from sonia.events import ApprovalChanged, Bus
from sonia.log import get_logger
from sonia.types import ApprovalId

if TYPE_CHECKING:
    import apsw

RETRY_S = 1.0
VOICE = "voice"
SPOKEN_TIER = 1  # a loudspeaker can say yes too


class Approvals:
    """The approvals of this run. What becomes of each is told on the bus, once it is kept."""

    def __init__(self, config: EvaOs, journal: Journal, bus: Bus) -> None:
        self._bus = bus
        self._config = config
        self._journal = journal
        self._deadlines = Deadlines()
        self._most_of_one = -(-config.max_pending // 2)  # one session can't shut out the others

    # --- asking --------------------------------------------------------------------------

    def ask(
        self, connection: apsw.Connection, plan: Plan, ruling: Ruling, scope: str, at: dt.datetime
    ) -> Approval:
        """Open a question in this transaction, or find the identical one that is pending."""
        same = store.same_question(
            connection, plan, risk_tier=ruling.tier, scope_hash=scope, now=at
        )
        if same:
            return same
        waiting, first = store.pending(connection, at)
        if waiting < self._config.max_pending:
            waiting, first = store.pending(connection, at, (plan.session_id,))
            most = self._most_of_one
        else:
            most = self._config.max_pending
        if waiting >= most:
            wait_s = math.ceil((first - at).total_seconds()) if first else 1
            raise TooManyPending(
                f"{waiting} approvals wait for an answer already. Answer or deny some first.",
                retry_after_s=max(1, wait_s),
                max_pending=most,
            )
        config = self._config
        return store.insert(
            connection,
            plan,
            risk_tier=ruling.tier,
            scope_hash=scope,
            reason=ruling.reason,
            now=at,
            ttl_s=config.unattended_ttl_s if plan.unattended else config.approval_ttl_s,
        )

    async def asked(self, approval: Approval, at: dt.datetime) -> None:
        """The transaction of `ask` is kept: from here on it can lapse."""
        left_s = (approval.expires_at - at).total_seconds()
        if self._deadlines.open(approval.id, left_s):
            await self._bus.publish(_changed(approval))

    # --- answering and using -------------------------------------------------------------

    async def settle(
        self,
        approval_id: ApprovalId,
        *,
        approve: bool,
        by: str,
        reason: str = "",
        code: str | None = None,
        trust: TrustFor | None = None,
    ) -> Approval:
        """See `Control.settle`."""
        stamp = self._journal.stamp()
        state: ApprovalState = "approved" if approve else "denied"
        answer = {"state": state, "by": by, "reason": reason}

        def work(connection: apsw.Connection) -> Approval | CodeNeeded:
            asked = store.find(connection, approval_id, stamp.at)
            if approve and asked.state == "pending":
                wrong = self._unconfirmed(connection, asked, by, code, stamp)
                if wrong:
                    return wrong
            answered = store.change(
                connection, store.SETTLE, id=approval_id, now=stamp.text, **answer
            )
            approval = store.find(connection, approval_id, stamp.at)
            if not answered:
                raise _settled(approval)
            account = _account(approval) | {"by": by, "reason": reason}
            if approve and trust:
                account["trust"] = trust
                ttl_s = self._config.trust_ttl_s
                granted.give(connection, approval, trust, by=by, now=stamp.at, ttl_s=ttl_s)
            ledger.append(connection, f"approval.{state}", account, stamp)
            return approval

        approval = await self._journal.write(work)
        if isinstance(approval, CodeNeeded):
            if not approval.details["tries_left"]:
                await self.ended([approval_id])
            raise approval
        if approve:
            self._deadlines.wake(approval_id)
        else:
            self._deadlines.close([approval_id])
        await self._bus.publish(_changed(approval))
        return approval

    def _unconfirmed(
        self,
        connection: apsw.Connection,
        asked: Approval,
        by: str,
        code: str | None,
        stamp: Stamp,
    ) -> CodeNeeded | None:
        """What keeps a yes from counting. A missing code is no try. Raises `VoiceForbidden`."""
        spoken = by == VOICE
        if spoken and asked.risk_tier > SPOKEN_TIER:
            raise VoiceForbidden(
                "By voice you can say no to this, not yes. Approve it on the screen: "
                f"sonia approvals approve {asked.id}"
            )
        if not (asked.needs_code or spoken):
            return None
        if code is None:
            return CodeNeeded(
                "This needs the confirmation code, which 'sonia approvals show' shows.",
                approval_id=asked.id,
                tries_left=TRIES,
            )
        if fits(store.code(connection, asked.id), code):
            return None
        left = store.mistake(connection, asked.id, by=by, now=stamp.text, most=TRIES)
        account = _account(asked) | {"by": by, "tries_left": left}
        ledger.append(connection, "approval.mistaken", account, stamp)
        said = f"{left} tries are left." if left else "It is denied now; ask again."
        return CodeNeeded(
            f"The confirmation code is wrong. {said}", approval_id=asked.id, tries_left=left
        )

    async def code(self, approval_id: ApprovalId) -> str:
        """See `Control.code`."""
        at = self._journal.now()

        def work(connection: apsw.Connection) -> str:
            approval = store.find(connection, approval_id, at)
            if approval.state != "pending":
                raise _settled(approval)
            return store.code(connection, approval_id)

        return await self._journal.read(work)

    async def trusts(self) -> tuple[Trust, ...]:
        """See `Control.trusts`."""
        at = self._journal.now()
        return await self._journal.read(lambda connection: granted.in_force(connection, at))

    async def distrust(self, trust_id: str, *, by: str) -> None:
        """See `Control.distrust`."""
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> None:
            if not granted.take_back(connection, trust_id):
                raise TrustNotFound("No trust in force has this id.", trust_id=trust_id)
            account = {"trust_id": trust_id, "by": by}
            ledger.append(connection, "trust.ended", account, stamp)

        await self._journal.write(work)

    async def redeem(self, approval_id: ApprovalId, plan: Plan) -> Decision:
        """See `Control.redeem`."""
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> Decision | ScopeMismatch:
            scope = scope_hash(plan, store.policy(connection).version)
            used = store.change(
                connection,
                store.CONSUME,
                id=approval_id,
                now=stamp.text,
                scope_hash=scope,
                session_id=plan.session_id,
            )
            approval = store.find(connection, approval_id, stamp.at)
            if not used and approval.state != "approved":
                raise _unusable(approval)
            account = _account(approval) | {"used_for": scope, "session_id": plan.session_id}
            ledger.append(
                connection, "approval.consumed" if used else "approval.refused", account, stamp
            )
            return _decision(approval) if used else _mismatch(approval)

        answer = await self._journal.write(work)
        if isinstance(answer, ScopeMismatch):
            raise answer
        await self.ended([approval_id])
        return answer

    # --- ending --------------------------------------------------------------------------

    async def withdraw(self, approval_id: ApprovalId, reason: str) -> None:
        """See `Control.withdraw`."""
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> list[ApprovalId]:
            store.find(connection, approval_id, stamp.at)
            found = store.change(
                connection, store.WITHDRAW, id=approval_id, now=stamp.text, reason=reason
            )
            return _ended(connection, found, "cancelled", reason, stamp)

        await self.ended(await self._journal.write(work))

    async def cancel_all(self, reason: str) -> None:
        """Cancel what is open: of an earlier run, or because this one ends."""
        stamp = self._journal.stamp()
        await self.ended(
            await self._journal.write(lambda connection: self.cancel_in(connection, reason, stamp))
        )

    def cancel_in(self, connection: apsw.Connection, reason: str, stamp: Stamp) -> list[ApprovalId]:
        """Cancel what is open in this transaction and end all trust; hand the result to `ended`
        after it.
        """
        for trust_id in granted.take_back(connection):
            account = {"trust_id": trust_id, "by": reason}
            ledger.append(connection, "trust.ended", account, stamp)
        found = store.change(connection, store.CANCEL_OPEN, reason=reason)
        return _ended(connection, found, "cancelled", reason, stamp)

    async def ended(self, approval_ids: list[ApprovalId]) -> None:
        """Tell who waits for these, and who listens, that they are over."""
        self._deadlines.close(approval_ids)
        for approval_id in approval_ids:
            await self._bus.publish(_changed(await self.one(approval_id)))

    async def expire(self) -> None:
        """Mark what lapses as expired, until cancelled."""
        while True:
            try:
                await self._expire(await self._deadlines.lapsed())
            except LedgerDown as error:
                get_logger("eva-os").error("expiry not recorded", reason=error.message)
                await asyncio.sleep(RETRY_S)  # they are refused as expired meanwhile

    async def _expire(self, due: list[ApprovalId]) -> None:
        stamp = self._journal.stamp()

        def work(connection: apsw.Connection) -> None:
            for approval_id in due:
                found = store.change(connection, store.LAPSE, id=approval_id)
                _ended(connection, found, "expired", "", stamp)

        await self._journal.write(work)
        await self.ended(due)

    # --- looking -------------------------------------------------------------------------

    async def decided(self, approval_id: ApprovalId) -> Approval:
        """See `Control.decided`."""
        approval = await self.one(approval_id)
        while approval.state == "pending":
            answered = self._deadlines.answered(approval_id)
            approval = await self.one(approval_id)  # it may have been answered before that
            if approval.state == "pending":
                await answered.wait()
                approval = await self.one(approval_id)
        self._deadlines.wake(approval_id)
        return approval

    async def one(self, approval_id: ApprovalId) -> Approval:
        """Raises `ApprovalNotFound`."""
        at = self._journal.now()
        return await self._journal.read(lambda connection: store.find(connection, approval_id, at))

    async def newest(
        self, state: ApprovalState | None = None, limit: int = 100
    ) -> tuple[Approval, ...]:
        """Newest first."""
        at = self._journal.now()
        return await self._journal.read(
            lambda connection: store.newest(connection, state=state, limit=limit, now=at)
        )


def _ended(
    connection: apsw.Connection, found: list[ApprovalId], state: str, reason: str, stamp: Stamp
) -> list[ApprovalId]:
    for approval_id in found:
        account = {"approval_id": approval_id, "reason": reason}
        ledger.append(connection, f"approval.{state}", account, stamp)
    return found


def _changed(approval: Approval) -> ApprovalChanged:
    return ApprovalChanged(
        approval_id=approval.id,
        state=approval.state,
        tool=approval.tool,
        preview=approval.preview,
        risk_tier=approval.risk_tier,
        expires_at=approval.expires_at,
        needs_code=approval.needs_code,
        session_id=approval.session_id,
        by=approval.answered_by,
        why=approval.answer_reason,
    )


def _account(approval: Approval) -> dict[str, Any]:
    return {
        "approval_id": approval.id,
        "tool": approval.tool,
        "scope_hash": approval.scope_hash,
    }


def _decision(approval: Approval) -> Decision:
    return Decision(
        verdict="approved",
        risk_tier=approval.risk_tier,
        rule="approval",
        reason=f"Approved by {approval.answered_by}, used now.",
        scope_hash=approval.scope_hash,
        approval_id=approval.id,
    )


def _mismatch(approval: Approval) -> ScopeMismatch:
    return ScopeMismatch(
        "The approval was given for another call: the arguments, a file they name, the tool, "
        "the session or the policy differ. Ask again.",
        approval_id=approval.id,
        approved_scope_hash=approval.scope_hash,
    )


def _unusable(approval: Approval) -> ApprovalSettled | ApprovalUnanswered:
    if approval.state == "pending":
        return ApprovalUnanswered(
            "Nobody has answered this approval yet. Wait for the answer.", approval_id=approval.id
        )
    return _settled(approval)


def _settled(approval: Approval) -> ApprovalSettled:
    return ApprovalSettled(
        f"This approval is {approval.state} already. Ask again.",
        approval_id=approval.id,
        state=approval.state,
    )
