"""The gateway's routes: chat, actions, approvals, sessions, and how the rest is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from litestar import Request, Response, Router, delete, get, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import Stream

from sonia.backups import Backups
from sonia.client import while_connected
from sonia.control import Approval, ApprovalState, Control, Operator, TrustFor
from sonia.envelope import Envelope, answer
from sonia.events import Bus
from sonia.gateway.answering import Answers
from sonia.gateway.anthropic import anthropic_routes
from sonia.gateway.audio import audio_routes
from sonia.gateway.backups import backup_routes
from sonia.gateway.keys import Keyring
from sonia.gateway.mcp import mcp_routes
from sonia.gateway.openai import openai_routes, responses_routes
from sonia.gateway.realtime import realtime_routes
from sonia.gateway.responses_store import Responses
from sonia.gateway.session_stream import stream_routes
from sonia.gateway.streaming import server_sent, whole
from sonia.memory import Memory, Session, Utterance, their_session
from sonia.purging import Purging
from sonia.tools import Call, Outcome, Tools
from sonia.turn import Reply, Text, TurnRequest, Turns
from sonia.types import DEFAULT_USER, ApprovalId, Value
from sonia.voice import Speech
from sonia.whose import check_owners, whose

UserName = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
SessionName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:\-]{1,128}$")]
Key = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Limit = Annotated[int, QueryParameter(ge=1, le=1000)]


class ChatBody(Value):
    """`POST /v1/chat`."""

    text: Text
    session_id: SessionName | None = None
    user_id: UserName = DEFAULT_USER
    profile: str | None = None
    model: str | None = None
    stream: bool = False


class TurnBody(Value):
    """`POST /v1/turn`, for clients that hold the whole exchange."""

    user_id: UserName
    conversation_id: SessionName
    input_text: Text
    profile: str | None = None
    metadata: dict[str, Any] = {}


class ActionBody(Value):
    """`POST /v1/action`."""

    tool_name: str
    args: dict[str, Any] = {}
    session_id: SessionName | None = None
    dry_run: bool = False
    idempotency_key: Key | None = None
    timeout_ms: Annotated[int, msgspec.Meta(ge=1, le=600_000)] | None = None


class SettleBody(Value):
    """`POST /v1/approvals/{id}/approve|deny`; may be left out."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    confirmation_code: Annotated[str, msgspec.Meta(max_length=100)] | None = None
    trust: TrustFor | None = None


class SessionBody(Value):
    """`POST /v1/sessions`; may be left out."""

    session_id: SessionName | None = None
    user_id: UserName = DEFAULT_USER
    metadata: dict[str, Any] = {}


class Dependency(Value, omit_defaults=True):
    """One service as the gateway sees it."""

    status: Literal["ok", "down"]
    duration_ms: float
    reason: str | None = None


class Closed(Value):
    """A session that is gone."""

    session_id: str
    state: str = "CLOSED"


class Keys(Value):
    """How many keys the API takes."""

    count: int


DEPENDENCIES = ("memory_engine", "model_router", "openclaw", "pipecat", "eva_os")


def routes(
    *,
    turns: Turns,
    tools: Tools,
    control: Control,
    operator: Operator,
    memory: Memory,
    speech: Speech,
    longest_audio_s: float,
    voice: str,
    answers: Answers,
    responses: Responses,
    backups: Backups,
    purging: Purging,
    keyring: Keyring,
    bus: Bus,
    stopping: asyncio.Event,
) -> Router:
    """The gateway's handlers; it has no prefix."""
    v1 = Router(
        path="/v1",
        route_handlers=[
            *_turns(turns),
            *_actions(tools),
            *_approvals(control, operator),
            *_sessions(memory),
            *audio_routes(speech, longest_audio_s),
            backup_routes(backups, purging, operator),
            _deps(control),
            *openai_routes(answers),
            *responses_routes(answers, responses),
            *realtime_routes(
                answers, speech, control, operator, voice=voice, longest_s=longest_audio_s
            ),
            *anthropic_routes(answers),
            *stream_routes(turns, memory, control, operator, bus),
            _keys(keyring, operator),
        ],
        tags=["api-gateway"],
    )
    return Router(path="/", route_handlers=[v1, *mcp_routes(tools, stopping)])


def _turns(turns: Turns) -> Sequence[Any]:
    @post("/chat", status_code=200)
    async def chat(
        data: JSONBody[ChatBody], request: Request[Any, Any, Any]
    ) -> Envelope[Reply] | Stream:
        wanted = TurnRequest(
            text=data.text,
            session_id=data.session_id,
            user_id=whose(data.user_id),
            profile=data.profile or "chat_low_latency",
            model=data.model,
            wait_for_approval=data.stream or _streams(request),
        )
        return await _taken(turns, wanted, request)

    @post("/turn", status_code=200)
    async def turn(
        data: JSONBody[TurnBody], request: Request[Any, Any, Any]
    ) -> Envelope[Reply] | Stream:
        wanted = TurnRequest(
            text=data.input_text,
            session_id=data.conversation_id,
            user_id=whose(data.user_id),
            profile=data.profile or "chat_low_latency",
            wait_for_approval=_streams(request),
            metadata=data.metadata,
        )
        return await _taken(turns, wanted, request)

    return chat, turn


def _streams(request: Request[Any, Any, Any]) -> bool:
    return "text/event-stream" in request.headers.get("accept", "")


async def _taken(
    turns: Turns, wanted: TurnRequest, request: Request[Any, Any, Any]
) -> Envelope[Reply] | Stream:
    """Streamed to a client that can wait for a person's approval, whole to any other."""
    if not wanted.wait_for_approval:
        return answer(await while_connected(request.receive, whole(turns, wanted)))
    return Stream(
        server_sent(turns.turn(wanted)),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


def _actions(tools: Tools) -> Sequence[Any]:
    @post("/action", status_code=200)
    async def action(data: JSONBody[ActionBody]) -> Response[Envelope[Outcome]]:
        outcome = await tools.execute(
            Call(
                tool_name=data.tool_name,
                args=data.args,
                session_id=data.session_id,
                dry_run=data.dry_run,
                idempotency_key=data.idempotency_key,
                timeout_ms=data.timeout_ms,
                follow_up=True,
            )
        )
        asked = outcome.status == "approval_required" and not data.dry_run
        return Response(answer(outcome), status_code=202 if asked else 200)

    @get("/actions")
    async def actions(limit: Limit = 50) -> Envelope[tuple[Outcome, ...]]:
        check_owners()
        return answer(await tools.actions(limit))

    @get("/actions/{action_id:str}")
    async def show_action(action_id: FromPath[str]) -> Envelope[Outcome]:
        return answer(await tools.action(action_id))

    return action, actions, show_action


def _approvals(control: Control, operator: Operator) -> Sequence[Any]:
    @get("/approvals")
    async def approvals(
        approval_state: Annotated[ApprovalState | None, QueryParameter(name="state")] = None,
        limit: Limit = 100,
    ) -> Envelope[tuple[Approval, ...]]:
        check_owners()
        return answer(await control.approvals(approval_state, limit))

    @get("/approvals/{approval_id:str}")
    async def show_approval(approval_id: FromPath[str]) -> Envelope[Approval]:
        return answer(await control.approval(ApprovalId(approval_id)))

    async def settle(
        approval_id: str, body: SettleBody | None, request: Request[Any, Any, Any], approve: bool
    ) -> Envelope[Approval]:
        operator.check(request.headers.get("authorization"))
        said = body or SettleBody()
        return answer(
            await control.settle(
                ApprovalId(approval_id),
                approve=approve,
                by="operator",
                reason=said.reason,
                code=said.confirmation_code,
                trust=said.trust,
            )
        )

    @post("/approvals/{approval_id:str}/approve", status_code=200)
    async def approve(
        approval_id: FromPath[str],
        request: Request[Any, Any, Any],
        data: JSONBody[SettleBody | None] = None,
    ) -> Envelope[Approval]:
        return await settle(approval_id, data, request, approve=True)

    @post("/approvals/{approval_id:str}/deny", status_code=200)
    async def deny(
        approval_id: FromPath[str],
        request: Request[Any, Any, Any],
        data: JSONBody[SettleBody | None] = None,
    ) -> Envelope[Approval]:
        return await settle(approval_id, data, request, approve=False)

    return approvals, show_approval, approve, deny


def _sessions(memory: Memory) -> Sequence[Any]:
    @post("/sessions", status_code=200)
    async def open_session(data: JSONBody[SessionBody | None] = None) -> Envelope[Session]:
        body = data or SessionBody()
        session = await memory.open_session(
            body.session_id, user_id=whose(body.user_id), metadata=body.metadata
        )
        return answer(session)

    @get("/sessions")
    async def sessions(
        limit: Limit = 50, user_id: FromQuery[str | None] = None
    ) -> Envelope[tuple[Session, ...]]:
        return answer(await memory.sessions(limit, user_id=whose(user_id)))

    @get("/sessions/{session_id:str}")
    async def show_session(session_id: FromPath[str]) -> Envelope[Session]:
        return answer(await their_session(memory, session_id))

    @delete("/sessions/{session_id:str}", status_code=200)
    async def close_session(session_id: FromPath[str]) -> Envelope[Closed]:
        await their_session(memory, session_id)
        await memory.close_session(session_id)
        return answer(Closed(session_id=session_id))

    @get("/sessions/{session_id:str}/history")
    async def history(
        session_id: FromPath[str],
        limit: Limit = 50,
        before: FromQuery[int | None] = None,
        after: FromQuery[int | None] = None,
    ) -> Envelope[tuple[Utterance, ...]]:
        await their_session(memory, session_id)
        return answer(await memory.history(session_id, limit=limit, before=before, after=after))

    return open_session, sessions, show_session, close_session, history


def _keys(keyring: Keyring, operator: Operator) -> Any:
    @post("/keys/reload", status_code=200)
    async def reload_keys(request: Request[Any, Any, Any]) -> Envelope[Keys]:
        operator.check(request.headers.get("authorization"))
        return answer(Keys(count=await keyring.reload()))

    return reload_keys


def _deps(control: Control) -> Any:
    @get("/deps")
    async def deps() -> Envelope[dict[str, Dependency]]:
        vitals = await control.vitals()
        return answer(
            {
                name: Dependency(
                    status="ok" if vital.ok else "down",
                    duration_ms=vital.duration_ms,
                    reason=vital.reason,
                )
                for name, vital in vitals.items()
                if name in DEPENDENCIES
            }
        )

    return deps
