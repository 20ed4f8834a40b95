"""What Sonia may do, and whether she is well.

A `Plan` is a call made exact: its canonical JSON is hashed, and that hash is all that a
decision ever allows. Control reads plans, it never makes or runs them, and never calls a model.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from typing import Any, Literal, Protocol, runtime_checkable

from sonia.errors import Conflict, Forbidden, NotFound, PolicyDenied, RateLimited, Unavailable
from sonia.types import ApprovalId, Origin, Value

Tier = Literal[0, 1, 2, 3]  # read, low, modify, destroy or unbounded
Verdict = Literal["approved", "approval_required", "denied"]
ApprovalState = Literal["pending", "approved", "denied", "expired", "cancelled", "consumed"]
RuleVerdict = Literal["allow", "ask", "deny"]
Mode = Literal["conversation", "operator", "diagnostic", "dictation", "build"]
TrustFor = Literal["exact", "session"]


class ApprovalNotFound(NotFound):
    """No approval has this id."""


class ApprovalSettled(Conflict):
    """It was answered, used, cancelled or has expired; `details["state"]` says which."""


class ApprovalUnanswered(Conflict):
    """It can't be used yet: the person has not answered."""


class CodeNeeded(Forbidden):
    """The confirmation code is missing or wrong; `details["tries_left"]` says how often more."""


class VoiceForbidden(Forbidden):
    """By voice one may deny, and approve what is no more than tier 1."""


class TrustRefused(Conflict):
    """This can't be trusted for longer than once."""


class TrustNotFound(NotFound):
    """No trust in force has this id."""


class ScopeMismatch(PolicyDenied):
    """The approval was given for another call: arguments, files, tool or policy changed."""


class TooManyPending(RateLimited):
    """So many approvals wait already that no further one is asked for."""


class LedgerDown(Unavailable):
    """The ledger can't be written, so nothing risky may run."""


class Plan(Value):
    """One tool call made exact: the tool's canonical name, checked arguments, and what they touch.

    `digests` maps each existing file that the arguments name to its SHA-256. `tool_digest` is the
    SHA-256 of the tool's definition. `preview` is shown to the person, whole. `origins` says
    where the arguments came from; it raises the tier but is not part of the hash. `outbound` is
    true when running it sends the arguments, or what they lead to, off this machine; `private`
    when the owner's files or memories had come into the turn; `unattended` when nobody is there.
    `programs` are all that a command line runs, each a line of plain words, where that is certain.
    """

    tool: str
    arguments: dict[str, Any]
    tier: Tier
    working_directory: str
    tool_digest: str
    preview: str
    digests: dict[str, str] = {}
    origins: tuple[Origin, ...] = ("owner",)
    session_id: str | None = None
    outbound: bool = False
    user_id: str | None = None
    private: bool = False
    unattended: bool = False
    programs: tuple[str, ...] = ()


class Decision(Value):
    """The answer to one plan. The same plan under the same policy gets the same verdict.

    `approval_id` and `expires_at` are there when a person has been asked.
    """

    verdict: Verdict
    risk_tier: Tier
    rule: str
    reason: str
    scope_hash: str
    approval_id: ApprovalId | None = None
    expires_at: dt.datetime | None = None


class Approval(Value):
    """A question to the person, and what became of it.

    With `needs_code` a yes counts only with the confirmation code, which the operator is shown.
    """

    id: ApprovalId
    state: ApprovalState
    tool: str
    arguments: dict[str, Any]
    preview: str
    risk_tier: Tier
    scope_hash: str
    reason: str
    created_at: dt.datetime
    expires_at: dt.datetime
    session_id: str | None = None
    answered_by: str | None = None
    answer_reason: str | None = None
    needs_code: bool = False


class Rule(Value, omit_defaults=True):
    """One line of policy: tools whose name matches `tool` (`*` at the end is a prefix).

    `path`, `host` and `command` are globs over what the call touches: a rule that allows has to
    cover all of it, one that asks or denies any of it. `user` and `mode` have to be the same.
    """

    tool: str
    verdict: RuleVerdict
    reason: str = ""
    path: str | None = None
    host: str | None = None
    command: str | None = None
    user: str | None = None
    mode: Mode | None = None


class Policy(Value):
    """Rules in order, the first match decides; without one the mode does.

    `file_rules` are those of the rules file and come first. `version` is part of every scope
    hash, so changing the policy voids what was approved under the old one.
    """

    version: int
    rules: tuple[Rule, ...] = ()
    file_rules: tuple[Rule, ...] = ()


class Trust(Value):
    """What a person said need not be asked again until `expires_at`, in one session.

    `exact` is this one call, `session` any call of this tool up to `risk_tier`. It never holds for
    calls made from what came from outside, in quiet hours, or for unattended work.
    """

    id: str
    kind: TrustFor
    tool: str
    risk_tier: Tier
    approval_id: ApprovalId
    given_by: str
    created_at: dt.datetime
    expires_at: dt.datetime
    session_id: str | None = None


class Explanation(Value):
    """Why a call would be decided as it would; `steps` in the order in which they counted."""

    verdict: Verdict
    risk_tier: Tier
    rule: str
    reason: str
    mode: Mode
    steps: tuple[str, ...]
    preview: str = ""


class LedgerEntry(Value):
    """One row of the ledger: what happened, chained to the row before by SHA-256."""

    number: int
    at: dt.datetime
    kind: str
    correlation_id: str
    data: dict[str, Any]
    previous_hash: str
    hash: str


class LedgerCheck(Value):
    """Whether the chain holds; `broken_at` is the first row that doesn't fit."""

    ok: bool
    entries: int
    broken_at: int | None = None
    head: str = ""


class Vital(Value):
    """How one watched part is: `detail` is its own account, `reason` why it is down.

    One that failed several times in a row is left alone for a while (`breaker` is open) and its
    last reason told; then it is asked once (half_open).
    """

    ok: bool
    duration_ms: float
    detail: dict[str, Any]
    reason: str | None = None
    breaker: Literal["closed", "open", "half_open"] = "closed"


class Node(Value):
    """One watched part: what it `needs`, and which of that, however far away, is down."""

    name: str
    ok: bool
    needs: tuple[str, ...]
    impaired_by: tuple[str, ...] = ()
    reason: str | None = None


class Maintenance(Value):
    """Whether everything that has an effect is refused for now."""

    on: bool
    reason: str = ""
    since: dt.datetime | None = None


Probe = Callable[[], Awaitable[dict[str, Any]]]
Undo = Callable[[], None]


@runtime_checkable
class Planner(Protocol):
    """Makes a call exact without running it. Tools fit it; `app.py` joins them."""

    async def plan(
        self,
        tool_name: str,
        args: dict[str, Any],
        *,
        origins: tuple[Origin, ...] = ("owner",),
        session_id: str | None = None,
    ) -> Plan:
        """Raise `NotFound` for an unknown tool, `InvalidRequest` for arguments that don't fit."""
        ...


@runtime_checkable
class Control(Protocol):
    """Decides, remembers what was decided, and watches."""

    async def judge(self, plan: Plan, *, ask: bool = True) -> Decision:
        """Decide. With `ask`, a verdict of `approval_required` opens an approval (or joins the
        identical one that is pending in the same session). Recorded in the ledger.

        Raises `TooManyPending`, and `LedgerDown` for tier 2 and above.
        """
        ...

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
        """Have the planner make the call exact, and judge it; nothing runs.

        A tool that does not exist, or arguments that don't fit it, are `denied`. Raises what
        `judge` raises, and `Unavailable` while no planner is there.
        """
        ...

    async def redeem(self, approval_id: ApprovalId, plan: Plan) -> Decision:
        """Use an approval up, once, for exactly this plan.

        One compare-and-set; of any number of callers at once, one succeeds. Raises
        `ApprovalNotFound`, `ApprovalUnanswered`, `ApprovalSettled`, `ScopeMismatch` (which
        leaves it unused).
        """
        ...

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
        """What `gate` would decide, and why. Asks nobody and records nothing."""
        ...

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
        """Answer for the person.

        A yes to tier 3 needs the confirmation `code`; the fifth wrong one is a no. `by="voice"`
        may say no, and yes to tier 1 at most with the code spoken (digits or English words).
        `trust` is given along with a yes. Raises `ApprovalNotFound`, `ApprovalSettled`,
        `CodeNeeded`, `VoiceForbidden`, `TrustRefused`.
        """
        ...

    async def code(self, approval_id: ApprovalId) -> str:
        """The confirmation code of a pending approval, for the operator's eyes only.

        Raises `ApprovalNotFound`, `ApprovalSettled`.
        """
        ...

    async def trusts(self) -> tuple[Trust, ...]:
        """What is in force, newest first."""
        ...

    async def distrust(self, trust_id: str, *, by: str) -> None:
        """Take trust back. Raises `TrustNotFound`."""
        ...

    async def mode(self) -> Mode:
        """How Sonia is set."""
        ...

    async def set_mode(self, mode: Mode, *, by: str) -> Mode:
        """Set her otherwise; open approvals are cancelled and trust ends."""
        ...

    async def decided(self, approval_id: ApprovalId) -> Approval:
        """Wait until it is no longer pending (expiry included) and return it."""
        ...

    async def withdraw(self, approval_id: ApprovalId, reason: str) -> None:
        """Cancel it if it is still pending or unused: who asked went away.

        Does nothing to one that is settled. Raises `ApprovalNotFound`.
        """
        ...

    async def approval(self, approval_id: ApprovalId) -> Approval:
        """Raises `ApprovalNotFound`."""
        ...

    async def approvals(
        self, state: ApprovalState | None = None, limit: int = 100
    ) -> tuple[Approval, ...]:
        """Newest first."""
        ...

    async def policy(self) -> Policy:
        """The rules in force."""
        ...

    async def set_policy(self, rules: tuple[Rule, ...], *, by: str) -> Policy:
        """Replace the rules; the version goes up by one and open approvals are cancelled.

        Raises `InvalidRequest` for a rule that could never match.
        """
        ...

    async def record(self, kind: str, data: dict[str, Any]) -> LedgerEntry:
        """Append to the ledger, durably, under the current correlation id. Raises `LedgerDown`."""
        ...

    async def ledger(self, *, after: int = 0, limit: int = 100) -> tuple[LedgerEntry, ...]:
        """Rows with a number above `after`, oldest first."""
        ...

    async def verify_ledger(self) -> LedgerCheck:
        """Recompute the whole chain."""
        ...

    def plan_with(self, planner: Planner) -> Undo:
        """Let `planner` answer for `/gate-tool-call`; call the result to take it back."""
        ...

    def watch(self, name: str, probe: Probe, needs: tuple[str, ...] = ()) -> Undo:
        """Ask `probe` whenever health is asked for; call the result to stop.

        `needs` names the watched parts that this one can't do its job without.
        """
        ...

    async def graph(self) -> tuple[Node, ...]:
        """Every watched part with what it needs, by name."""
        ...

    def maintenance(self) -> Maintenance:
        """How it stands."""
        ...

    async def set_maintenance(self, on: bool, *, reason: str, by: str) -> Maintenance:
        """Begin or end it. Beginning cancels open approvals; a restart does not end it."""
        ...

    async def vitals(self) -> dict[str, Vital]:
        """Ask every probe at once, each for at most a second."""
        ...

    async def probe(self) -> dict[str, object]:
        """How control itself is. Raises `Unavailable` when it can't read or write."""
        ...


@runtime_checkable
class Operator(Protocol):
    """The person's credential: a 256-bit token in a 0600 file."""

    def check(self, authorization: str | None) -> None:
        """Accept `Bearer <token>`; raises `Unauthorized` when absent or wrong."""
        ...
