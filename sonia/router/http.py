"""The model router's routes."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Annotated, Any, Protocol

import msgspec
from litestar import Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from litestar.response import ServerSentEvent, ServerSentEventMessage

from sonia.client import while_connected
from sonia.envelope import Envelope, answer, describe
from sonia.errors import Forbidden, NotFound, SoniaError
from sonia.router.interface import (
    AnswerCut,
    BreakerInfo,
    BudgetInfo,
    BudgetScope,
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    ModelInfo,
    ProviderInfo,
    Route,
    Router,
    TextDelta,
    ToolCallProposed,
    UsageRow,
)
from sonia.router.service import DEFAULT_PROFILE
from sonia.types import DEFAULT_USER, Message, ToolCall, ToolSpec, Usage, Value, now
from sonia.whose import check_owners, whose

MAX_TEXTS = 256
MAX_MESSAGES = 1000
MAX_STOPS = 4
Days = Annotated[int, QueryParameter(ge=1, le=3660)]
Content = Annotated[str, msgspec.Meta(max_length=200_000)]


StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]


class ChatBody(Value):
    """`POST /chat`. `task_type` is another word for `profile`."""

    messages: Annotated[tuple[Message, ...], msgspec.Meta(min_length=1, max_length=MAX_MESSAGES)]
    model: str | None = None
    profile: str | None = None
    task_type: str | None = None
    tools: tuple[ToolSpec, ...] = ()
    json_schema: dict[str, Any] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=32_768)] = 512
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    tool_choice: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = "auto"
    top_p: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    seed: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    stop: Annotated[tuple[StopText, ...], msgspec.Meta(max_length=MAX_STOPS)] = ()
    frequency_penalty: Penalty = 0.0
    presence_penalty: Penalty = 0.0
    parallel_tool_calls: bool = True
    json_object: bool = False
    reasoning_effort: Annotated[str, msgspec.Meta(max_length=32)] | None = None
    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = DEFAULT_USER
    session_id: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    stream: bool = False


class ChatReply(Value):
    """A whole answer."""

    response: str
    tool_calls: tuple[ToolCall, ...]
    model: str
    provider: str
    finish_reason: FinishReason
    usage: Usage
    cost_usd: float | None
    first_token_ms: float


class SelectBody(Value):
    """`POST /select`: what is about to be asked."""

    profile: str | None = None
    task_type: str | None = None
    model: str | None = None
    tokens: Annotated[int, msgspec.Meta(ge=0, le=100_000_000)] = 0
    images: bool = False


class EmbeddingsBody(Value):
    """`POST /embeddings`."""

    texts: Annotated[tuple[Content, ...], msgspec.Meta(max_length=MAX_TEXTS)]


class EmbeddingsReply(Value):
    """One vector a text, each of length 1."""

    space: str
    dimensions: int
    vectors: list[list[float]]


class Providers(Value):
    """`GET /providers`."""

    providers: tuple[ProviderInfo, ...]


class Breakers(Value):
    """`GET /breakers`."""

    breakers: tuple[BreakerInfo, ...]


class Used(Value):
    """`GET /usage`: by day and model, newest first; budgets that were used since the start."""

    usage: tuple[UsageRow, ...]
    budgets: tuple[BudgetInfo, ...]


class AllowBody(Value):
    """`POST /usage/allow`: by how much a budget may be passed; `key` is the user or session."""

    scope: BudgetScope
    key: Annotated[str, msgspec.Meta(max_length=128)] = ""
    usd: Annotated[float, msgspec.Meta(ge=0, le=1_000_000)] = 0.0
    tokens: Annotated[int, msgspec.Meta(ge=0, le=10**12)] = 0


class Operator(Protocol):
    """Knows the operator's token."""

    def check(self, authorization: str | None) -> None:
        """Raises `Unauthorized`."""
        ...


class ModelNames(Value):
    """`GET /models/{provider}/listed`: what the provider itself says it has."""

    models: tuple[str, ...]


class Models(Value):
    """`GET /models`."""

    models: tuple[ModelInfo, ...]


def routes(router: Router, operator: Operator | None = None) -> list[HTTPRouteHandler]:
    """The handlers, to be mounted under the module's prefix.

    Allowing more than a budget needs the operator's token; without an `operator` nobody can.
    """

    @post("/chat", status_code=200)
    async def chat(data: JSONBody[ChatBody], request: Request[Any, Any, Any]) -> Response[Any]:
        if data.stream:
            return await _streamed(router, data)
        whole = _whole(router, _request(data))
        return Response(answer(await while_connected(request.receive, whole)))

    @post("/select", status_code=200)
    async def select(data: JSONBody[SelectBody]) -> Envelope[Route]:
        profile = _profile(data.profile, data.task_type)
        return answer(router.route(profile, data.model, tokens=data.tokens, images=data.images))

    @get("/route")
    async def route(
        task_type: FromQuery[str | None] = None, model: FromQuery[str | None] = None
    ) -> Envelope[Route]:
        return answer(router.route(_profile(None, task_type), model))

    @post("/embeddings", status_code=200)
    async def embeddings(data: JSONBody[EmbeddingsBody]) -> Envelope[EmbeddingsReply]:
        vectors = await router.embeddings.embed(data.texts)
        return answer(
            EmbeddingsReply(
                space=router.embeddings.space,
                dimensions=router.embeddings.dimensions,
                vectors=vectors.tolist(),
            )
        )

    return [
        chat,
        select,
        route,
        embeddings,
        *_listings(router),
        *_breakers(router),
        *_usage(router, operator),
    ]


def _listings(router: Router) -> list[HTTPRouteHandler]:
    @get("/providers")
    async def providers() -> Envelope[Providers]:
        return answer(Providers(providers=router.providers()))

    @get("/models")
    async def models() -> Envelope[Models]:
        return answer(Models(models=router.models()))

    @get("/models/{provider:str}")
    async def models_of(provider: FromPath[str]) -> Envelope[Models]:
        known = [info.name for info in router.providers()]
        if provider not in known:
            raise NotFound(f"No provider {provider!r}. There are: {', '.join(known)}.", known=known)
        return answer(Models(models=tuple(m for m in router.models() if m.provider == provider)))

    @get("/models/{provider:str}/listed")
    async def models_listed(provider: FromPath[str]) -> Envelope[ModelNames]:
        return answer(ModelNames(models=await router.remote_models(provider)))

    return [providers, models, models_of, models_listed]


def _usage(router: Router, operator: Operator | None) -> list[HTTPRouteHandler]:
    @get("/usage")
    async def usage(days: Days = 30, user_id: FromQuery[str | None] = None) -> Envelope[Used]:
        since = (now() - dt.timedelta(days=days - 1)).date().isoformat()
        rows = await router.usage(since, whose(user_id))
        return answer(Used(usage=rows, budgets=_seen(router.budgets())))

    @post("/usage/allow", status_code=200)
    async def allow(
        data: JSONBody[AllowBody], request: Request[Any, Any, Any]
    ) -> Envelope[BudgetInfo]:
        if operator is None:
            raise Forbidden("Nobody can allow more here.")
        operator.check(request.headers.get("authorization"))
        return answer(await router.allow(data.scope, data.key, tokens=data.tokens, usd=data.usd))

    return [usage, allow]


def _breakers(router: Router) -> list[HTTPRouteHandler]:
    @get("/breakers")
    async def breakers() -> Envelope[Breakers]:
        return answer(Breakers(breakers=router.breakers()))

    @post("/breakers/{name:str}/reset", status_code=200)
    async def reset_breaker(name: FromPath[str]) -> Envelope[BreakerInfo]:
        check_owners()
        return answer(router.reset_breaker(name))

    return [breakers, reset_breaker]


def _seen(budgets: tuple[BudgetInfo, ...]) -> tuple[BudgetInfo, ...]:
    """A user's key sees the user's own and the day's; sessions are named by nobody."""
    user_id = whose(None)
    if user_id is None:
        return budgets
    return tuple(one for one in budgets if one.scope == "day" or one.key == user_id)


def _profile(profile: str | None, task_type: str | None) -> str:
    return profile or task_type or DEFAULT_PROFILE


def _request(body: ChatBody) -> ChatRequest:
    return ChatRequest(
        messages=body.messages,
        model=body.model,
        profile=_profile(body.profile, body.task_type),
        tools=body.tools,
        json_schema=body.json_schema,
        max_tokens=body.max_tokens,
        temperature=body.temperature,
        tool_choice=body.tool_choice,
        top_p=body.top_p,
        seed=body.seed,
        stop=body.stop,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        parallel_tool_calls=body.parallel_tool_calls,
        json_object=body.json_object,
        reasoning_effort=body.reasoning_effort,
        user_id=whose(body.user_id),
        session_id=body.session_id,
        whole=not body.stream,
    )


async def _whole(router: Router, request: ChatRequest) -> ChatReply:
    text: list[str] = []
    calls: list[ToolCall] = []
    end: Finished | None = None
    async with router.chat(request) as events:
        async for event in events:
            match event:
                case TextDelta():
                    text.append(event.text)
                case ToolCallProposed():
                    calls.append(event.call)
                case Finished():
                    end = event
    if end is None:
        raise AnswerCut("The answer ended without saying why.")
    return _reply(end, "".join(text), tuple(calls))


def _reply(end: Finished, text: str, calls: tuple[ToolCall, ...]) -> ChatReply:
    return ChatReply(
        response=text,
        tool_calls=calls,
        model=end.model,
        provider=end.provider,
        finish_reason=end.reason,
        usage=end.usage,
        cost_usd=end.cost_usd,
        first_token_ms=end.first_token_ms,
    )


async def _streamed(router: Router, body: ChatBody) -> ServerSentEvent:
    """Enter the answer before the headers go out, so a failing model is a plain error answer."""
    stack = AsyncExitStack()
    try:
        events = await stack.enter_async_context(router.chat(_request(body)))
        return ServerSentEvent(_told(stack.pop_all(), events))
    finally:
        await stack.aclose()


async def _told(
    stack: AsyncExitStack, events: AsyncIterator[ChatEvent]
) -> AsyncIterator[ServerSentEventMessage]:
    text: list[str] = []
    calls: list[ToolCall] = []
    async with stack:
        try:
            async for event in events:
                match event:
                    case TextDelta():
                        text.append(event.text)
                        yield _event("response.delta", {"text": event.text})
                    case ToolCallProposed():
                        calls.append(event.call)
                        yield _event("tool.call", event.call)
                    case Finished():
                        reply = _reply(event, "".join(text), tuple(calls))
                        yield _event("response.done", reply)
        except SoniaError as error:
            yield _event("error", describe(error))


def _event(name: str, data: Any) -> ServerSentEventMessage:
    return ServerSentEventMessage(event=name, data=msgspec.json.encode(data).decode())
