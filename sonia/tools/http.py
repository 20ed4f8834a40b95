"""The routes of the tools, under `/tools`."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

from litestar import Response, Router, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import Meta

from sonia.control import Operator, operator_only
from sonia.envelope import Envelope, answer
from sonia.tools.interface import Call, Outcome, ToolInfo, Tools
from sonia.types import ApprovalId, Value
from sonia.whose import check_owners

COUNTED = 1_000


class ExecuteBody(Value):
    """What `POST /execute` takes. Whoever sends it is a program of the owner."""

    tool_name: Annotated[str, Meta(min_length=1, max_length=200)]
    args: dict[str, Any] = {}
    timeout_ms: Annotated[int, Meta(ge=1, le=600_000)] | None = None
    approval_id: ApprovalId | None = None
    dry_run: bool = False
    idempotency_key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    session_id: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class ToolList(Value):
    """Every tool, by name."""

    tools: tuple[ToolInfo, ...]


class RegistryStats(Value):
    """How many tools there are, and how the newest `counted` actions ended."""

    tools: int
    by_tier: dict[str, int]
    counted: int
    by_status: dict[str, int]
    by_tool: dict[str, int]


class ExecutionLog(Value):
    """Actions, newest first."""

    actions: tuple[Outcome, ...]


def routes(tools: Tools, operator: Operator) -> Router:
    """`/tools/…` for `tools`; undoing needs the operator's token."""

    @get("/tools", operation_id="ListTools")
    async def catalogue() -> Envelope[ToolList]:
        return answer(ToolList(tools=tools.catalogue()))

    @get("/tools/{name:str}", operation_id="DescribeTool")
    async def describe(name: FromPath[str]) -> Envelope[ToolInfo]:
        return answer(tools.describe(name))

    @post("/execute", status_code=200, operation_id="ExecuteTool")
    async def execute(data: JSONBody[ExecuteBody]) -> Response[Envelope[Outcome]]:
        outcome = await tools.execute(
            Call(
                tool_name=data.tool_name,
                args=data.args,
                session_id=data.session_id,
                approval_id=data.approval_id,
                dry_run=data.dry_run,
                idempotency_key=data.idempotency_key,
                timeout_ms=data.timeout_ms,
            )
        )
        asks = outcome.status == "approval_required"
        return Response(answer(outcome), status_code=202 if asks else 200)

    @get("/registry/stats", operation_id="ToolStats")
    async def stats() -> Envelope[RegistryStats]:
        return answer(_stats(tools.catalogue(), await tools.actions(COUNTED)))

    @get("/logs/execution", operation_id="ToolLog")
    async def log(
        limit: Annotated[int, QueryParameter(ge=1, le=COUNTED)] = 50,
    ) -> Envelope[ExecutionLog]:
        check_owners()
        return answer(ExecutionLog(actions=await tools.actions(limit)))

    @post(
        "/undo/{action_id:str}",
        status_code=200,
        guards=[operator_only(operator)],
        operation_id="UndoAction",
    )
    async def undo(action_id: FromPath[str]) -> Envelope[Outcome]:
        return answer(await tools.undo(action_id, by="operator"))

    return Router(
        path="/tools",
        route_handlers=[catalogue, describe, execute, undo, stats, log],
        tags=["tools"],
    )


def _stats(known: tuple[ToolInfo, ...], newest: tuple[Outcome, ...]) -> RegistryStats:
    return RegistryStats(
        tools=len(known),
        by_tier=dict(Counter(str(tool.risk_tier) for tool in known)),
        counted=len(newest),
        by_status=dict(Counter(outcome.status for outcome in newest)),
        by_tool=dict(Counter(outcome.tool for outcome in newest)),
    )
