"""Control's routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Router, delete, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from sonia.control.interface import (
    Approval,
    ApprovalState,
    Control,
    Decision,
    Explanation,
    LedgerCheck,
    LedgerEntry,
    Maintenance,
    Mode,
    Node,
    Operator,
    Policy,
    Rule,
    Trust,
    TrustFor,
    Vital,
)
from sonia.control.letters import DeadLetters
from sonia.control.letters_http import routes as letter_routes
from sonia.control.tasks import Tasks
from sonia.control.tasks.http import routes as task_routes
from sonia.envelope import Envelope, answer
from sonia.types import ApprovalId, Origin, Value
from sonia.whose import check_owners

MAX_ROWS = 1_000
BY = "operator"

Limit = Annotated[int, QueryParameter(ge=1, le=MAX_ROWS)]
State = Annotated[ApprovalState | None, QueryParameter(name="state")]
After = Annotated[int, QueryParameter(ge=0, le=2**53)]


class GateContext(Value):
    """Where a call comes from. Nothing in it can make a call less risky than the owner's own."""

    session_id: str | None = None
    origins: tuple[Origin, ...] = ("owner",)
    user_id: str | None = None
    private: bool = False
    unattended: bool = False


class GateBody(Value):
    """A call to decide about."""

    tool_name: str
    args: dict[str, Any] = {}
    context: GateContext = GateContext()


class ApproveBody(Value):
    """The person's answer."""

    approval_id: ApprovalId
    decision: Literal["approved", "denied"]
    reason: str = ""
    confirmation_code: str | None = None
    trust: TrustFor | None = None


class Code(Value):
    """For the operator's eyes."""

    approval_id: ApprovalId
    confirmation_code: str


class ModeBody(Value):
    """How Sonia is set, or is to be."""

    mode: Mode


class PolicyBody(Value):
    """All the rules, in order."""

    rules: tuple[Rule, ...]


class MaintenanceBody(Value):
    """Begin or end maintenance."""

    on: bool
    reason: Annotated[str, msgspec.Meta(max_length=500)] = ""


def routes(
    control: Control,
    operator: Operator,
    tasks: Tasks | None = None,
    letters: DeadLetters | None = None,
) -> Router:
    """Everything below `/control`. Answering, trust, policy and mode need the operator's token."""
    return Router(
        path="/control",
        tags=["control"],
        route_handlers=[
            *_deciding(control, operator),
            *_asking(control, operator),
            *_watching(control, operator),
            *(task_routes(tasks) if tasks else ()),
            *(letter_routes(letters) if letters else ()),
        ],
    )


def _deciding(control: Control, operator: Operator) -> Sequence[Any]:
    @post("/gate-tool-call", status_code=200)
    async def gate_tool_call(data: JSONBody[GateBody]) -> Envelope[Decision]:
        context = msgspec.structs.asdict(data.context)
        return answer(await control.gate(data.tool_name, data.args, **context))

    @post("/policy/test", status_code=200)
    async def test_policy(data: JSONBody[GateBody]) -> Envelope[Explanation]:
        context = msgspec.structs.asdict(data.context)
        return answer(await control.explain(data.tool_name, data.args, **context))

    @get("/policy")
    async def get_policy() -> Envelope[Policy]:
        return answer(await control.policy())

    @put("/policy")
    async def put_policy(
        data: JSONBody[PolicyBody], request: Request[Any, Any, Any]
    ) -> Envelope[Policy]:
        operator.check(request.headers.get("authorization"))
        return answer(await control.set_policy(data.rules, by=BY))

    @get("/mode")
    async def get_mode() -> Envelope[ModeBody]:
        return answer(ModeBody(mode=await control.mode()))

    @put("/mode")
    async def put_mode(
        data: JSONBody[ModeBody], request: Request[Any, Any, Any]
    ) -> Envelope[ModeBody]:
        operator.check(request.headers.get("authorization"))
        return answer(ModeBody(mode=await control.set_mode(data.mode, by=BY)))

    return gate_tool_call, test_policy, get_policy, put_policy, get_mode, put_mode


def _asking(control: Control, operator: Operator) -> Sequence[Any]:
    @get("/approvals")
    async def list_approvals(
        approval_state: State = None, limit: Limit = 100
    ) -> Envelope[tuple[Approval, ...]]:
        check_owners()
        return answer(await control.approvals(approval_state, limit))

    @get("/approvals/{approval_id:str}")
    async def get_approval(approval_id: FromPath[str]) -> Envelope[Approval]:
        return answer(await control.approval(ApprovalId(approval_id)))

    @post("/approve", status_code=200)
    async def approve(
        data: JSONBody[ApproveBody], request: Request[Any, Any, Any]
    ) -> Envelope[Approval]:
        operator.check(request.headers.get("authorization"))
        return answer(
            await control.settle(
                data.approval_id,
                approve=data.decision == "approved",
                by=BY,
                reason=data.reason,
                code=data.confirmation_code,
                trust=data.trust,
            )
        )

    @get("/approvals/{approval_id:str}/code")
    async def show_code(
        approval_id: FromPath[str], request: Request[Any, Any, Any]
    ) -> Envelope[Code]:
        operator.check(request.headers.get("authorization"))
        name = ApprovalId(approval_id)
        return answer(Code(approval_id=name, confirmation_code=await control.code(name)))

    @get("/trust")
    async def list_trust() -> Envelope[tuple[Trust, ...]]:
        check_owners()
        return answer(await control.trusts())

    @delete("/trust/{trust_id:str}", status_code=200)
    async def end_trust(
        trust_id: FromPath[str], request: Request[Any, Any, Any]
    ) -> Envelope[tuple[Trust, ...]]:
        operator.check(request.headers.get("authorization"))
        await control.distrust(trust_id, by=BY)
        return answer(await control.trusts())

    return list_approvals, get_approval, approve, show_code, list_trust, end_trust


def _watching(control: Control, operator: Operator) -> Sequence[Any]:
    @get("/health/all")
    async def health_all() -> Envelope[dict[str, Vital]]:
        return answer(await control.vitals())

    @get("/audit")
    async def audit(after: After = 0, limit: Limit = 100) -> Envelope[tuple[LedgerEntry, ...]]:
        check_owners()
        return answer(await control.ledger(after=after, limit=limit))

    @get("/audit/verify")
    async def audit_verify() -> Envelope[LedgerCheck]:
        return answer(await control.verify_ledger())

    @get("/graph")
    async def graph() -> Envelope[tuple[Node, ...]]:
        return answer(await control.graph())

    @get("/maintenance")
    async def get_maintenance() -> Envelope[Maintenance]:
        return answer(control.maintenance())

    @put("/maintenance")
    async def put_maintenance(
        data: JSONBody[MaintenanceBody], request: Request[Any, Any, Any]
    ) -> Envelope[Maintenance]:
        operator.check(request.headers.get("authorization"))
        return answer(await control.set_maintenance(data.on, reason=data.reason, by=BY))

    return health_all, audit, audit_verify, graph, get_maintenance, put_maintenance
