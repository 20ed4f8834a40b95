"""Control's routes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from litestar import Request, Router, get, post, put
from litestar.params import FromPath, JSONBody, QueryParameter

from sonia.control.interface import (
    Approval,
    ApprovalState,
    Control,
    Decision,
    LedgerCheck,
    LedgerEntry,
    Operator,
    Policy,
    Rule,
    Vital,
)
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


class PolicyBody(Value):
    """All the rules, in order."""

    rules: tuple[Rule, ...]


def routes(control: Control, operator: Operator, tasks: Tasks | None = None) -> Router:
    """Everything below `/control`. Answering and changing policy need the operator's token."""

    @post("/gate-tool-call", status_code=200)
    async def gate_tool_call(data: JSONBody[GateBody]) -> Envelope[Decision]:
        context = data.context
        return answer(
            await control.gate(
                data.tool_name, data.args, origins=context.origins, session_id=context.session_id
            )
        )

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
                data.approval_id, approve=data.decision == "approved", by=BY, reason=data.reason
            )
        )

    @get("/policy")
    async def get_policy() -> Envelope[Policy]:
        return answer(await control.policy())

    @put("/policy")
    async def put_policy(
        data: JSONBody[PolicyBody], request: Request[Any, Any, Any]
    ) -> Envelope[Policy]:
        operator.check(request.headers.get("authorization"))
        return answer(await control.set_policy(data.rules, by=BY))

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

    return Router(
        path="/control",
        tags=["control"],
        route_handlers=[
            gate_tool_call,
            list_approvals,
            get_approval,
            approve,
            get_policy,
            put_policy,
            health_all,
            audit,
            audit_verify,
            *(task_routes(tasks) if tasks else ()),
        ],
    )
