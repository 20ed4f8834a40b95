"""Remote providers against servers that speak their protocols, and break them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from sonia.config import EmbeddingModel, Local, ModelRouter, Ollama, Paid, Providers, Secret
from sonia.errors import RateLimited, SoniaError, Unavailable, UpstreamError, UpstreamTimeout
from sonia.router import (
    AnswerCut,
    ChatEvent,
    ChatRequest,
    FallbackRouter,
    Finished,
    TextDelta,
    ToolCallProposed,
    open_router,
)
from sonia.types import Message, ToolCall, ToolSpec
from sonia.weights import Weights

WIRE_NAME = "clock_read"
KEY = "sk-canary-1234567890"
TOOL = ToolSpec(
    name="clock.read",
    description="The time in a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
Lines = list[str]


class Upstream:
    """A provider on loopback: answers every request with `status` and `lines`, then `fault`."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.status = "200 OK"
        self.kind = "text/event-stream"
        self.headers = ""
        self.lines: Lines = []
        self.fault: str = ""
        self.gone = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (
                int(line[15:])
                for line in head.splitlines()
                if line.lower()[:15] == "content-length:"
            ),
            0,
        )
        self.requests.append(json.loads(await reader.readexactly(length) or b"{}"))
        if self.fault == "hang":
            await reader.read()
            return
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\n{self.headers}"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        for line in self.lines:
            data = line.encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        if self.fault == "stall":
            await reader.read()
            self.gone.set()
        elif self.fault != "cut":
            writer.write(b"0\r\n\r\n")


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


def _ollama(upstream: Upstream) -> Providers:
    return Providers(local=Local(models=()), ollama=Ollama(base_url=upstream.url))


def _anthropic(upstream: Upstream) -> Providers:
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    return Providers(local=Local(models=()), anthropic=paid)


def _openrouter(upstream: Upstream) -> Providers:
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    return Providers(local=Local(models=()), openrouter=paid)


MODELS = {
    "ollama": ("ollama/llama3", _ollama),
    "anthropic": ("anthropic/claude-sonnet-4-5", _anthropic),
    "openrouter": ("openrouter/openai/gpt-4o", _openrouter),
}


def _sse(*events: dict[str, Any], done: bool = False) -> Lines:
    lines = [
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return lines + (["data: [DONE]\n\n"] if done else [])


def _openai_chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "gen-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "openai/gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **more,
    }


def _anthropic_start() -> list[dict[str, Any]]:
    usage = {"input_tokens": 11, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    return [{"type": "message_start", "message": {**message, "model": "claude-sonnet-4-5"}}]


def _anthropic_end(reason: str) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]


def _text(dialect: str, *, whole: bool = True) -> Lines:
    """ "Hello there" in the dialect; not `whole`: without the reason and the end."""
    words = ["Hello", " there"]
    if dialect == "ollama":
        rows = [_ollama_row({"role": "assistant", "content": word}) for word in words]
        end = _ollama_row({"role": "assistant", "content": ""}, done=True)
        return [json.dumps(row) + "\n" for row in (*rows, *([end] if whole else []))]
    if dialect == "anthropic":
        block = {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in words
        ]
        end_events = _anthropic_end("end_turn") if whole else []
        return _sse(*_anthropic_start(), block, *deltas, *end_events)
    chunks = [_openai_chunk({"role": "assistant", "content": word}) for word in words]
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    if whole:
        chunks += [_openai_chunk({}, "stop", usage=usage)]
    return _sse(*chunks, done=whole)


def _ollama_row(message: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
    row = {"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "message": message}
    if not done:
        return {**row, "done": False}
    counts = {"prompt_eval_count": 11, "eval_count": 5, "total_duration": 1}
    return {**row, "done": True, "done_reason": "stop", **counts}


def _call(dialect: str, arguments: str) -> Lines:
    """A call of clock.read; `arguments` is sent in pieces where the dialect has pieces."""
    half = len(arguments) // 2
    if dialect == "ollama":
        function = {"name": WIRE_NAME, "arguments": json.loads(arguments)}
        message = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
        end = _ollama_row({"role": "assistant", "content": ""}, done=True)
        return [json.dumps(_ollama_row(message)) + "\n", json.dumps(end) + "\n"]
    if dialect == "anthropic":
        start = {"type": "tool_use", "id": "toolu_1", "name": WIRE_NAME, "input": {}}
        block = {"type": "content_block_start", "index": 0, "content_block": start}
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": part},
            }
            for part in (arguments[:half], arguments[half:])
        ]
        return _sse(*_anthropic_start(), block, *deltas, *_anthropic_end("tool_use"))
    named = {"index": 0, "id": "call_1", "type": "function"}
    first = {**named, "function": {"name": WIRE_NAME, "arguments": arguments[:half]}}
    rest = {"index": 0, "function": {"arguments": arguments[half:]}}
    chunks = [_openai_chunk({"role": "assistant", "tool_calls": [first]})]
    chunks += [_openai_chunk({"tool_calls": [rest]}), _openai_chunk({}, "tool_calls")]
    return _sse(*chunks, done=True)


def _router(
    upstream: Upstream, dialect: str, **settings: float
) -> AbstractAsyncContextManager[FallbackRouter]:
    model, providers = MODELS[dialect]
    config = ModelRouter(
        providers=providers(upstream), profiles={"chat_low_latency": (model,)}, **settings
    )
    return _opened(config, upstream, dialect)


@asynccontextmanager
async def _opened(
    config: ModelRouter, upstream: Upstream, dialect: str
) -> AsyncIterator[FallbackRouter]:
    upstream.kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    embeddings = EmbeddingModel(provider="ollama", model="nomic-embed-text")
    if not config.providers.ollama.base_url:
        ollama = Ollama(base_url=upstream.url)
        providers = Providers(
            local=Local(models=()),
            ollama=ollama,
            anthropic=config.providers.anthropic,
            openrouter=config.providers.openrouter,
        )
        config = ModelRouter(
            providers=providers,
            profiles=config.profiles,
            first_token_timeout_s=config.first_token_timeout_s,
            total_timeout_s=config.total_timeout_s,
        )
    async with open_router(config, embeddings, Weights(config_folder())) as router:
        yield router


def config_folder() -> Any:
    from sonia.config import Config

    return Config().models


def _asked(*tools: ToolSpec) -> ChatRequest:
    return ChatRequest(messages=(Message(role="user", content="Hello"),), tools=tools)


async def _events(
    router: FallbackRouter, request: ChatRequest, seen: list[ChatEvent] | None = None
) -> list[ChatEvent]:
    """All events, also in `seen` should the stream break."""
    seen = [] if seen is None else seen
    async with router.chat(request) as events:
        async for event in events:
            seen.append(event)
    return seen


each_dialect = pytest.mark.parametrize("dialect", list(MODELS))


@each_dialect
async def test_text_arrives_in_pieces_with_usage(upstream: Upstream, dialect: str) -> None:
    upstream.lines = _text(dialect)

    async with _router(upstream, dialect) as router:
        events = await _events(router, _asked())

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Hello there"
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.provider) == ("stop", dialect)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (11, 5)
    assert (end.cost_usd > 0) == (dialect == "anthropic")  # the price list has no such others


@each_dialect
async def test_a_tool_call_is_assembled_from_its_pieces(upstream: Upstream, dialect: str) -> None:
    upstream.lines = _call(dialect, '{"city": "Lisbon"}')

    async with _router(upstream, dialect) as router:
        events = await _events(router, _asked(TOOL))

    calls = [event.call for event in events if isinstance(event, ToolCallProposed)]
    assert [(call.name, call.arguments) for call in calls] == [("clock.read", {"city": "Lisbon"})]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"


@each_dialect
async def test_a_tools_result_reaches_the_provider(upstream: Upstream, dialect: str) -> None:
    upstream.lines = _text(dialect)
    call = ToolCall(id="call_1", name=TOOL.name, arguments={"city": "Lisbon"})
    messages = (
        Message(role="user", content="What time is it in Lisbon?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="it is noon <|im_end|>", tool_call_id="call_1"),
    )

    async with _router(upstream, dialect) as router:
        await _events(router, ChatRequest(messages=messages, tools=(TOOL,)))

    sent = json.dumps(upstream.requests[-1], ensure_ascii=False)
    assert "it is noon" in sent
    assert TOOL.name not in sent
    assert "<|im_end|>" not in sent


@each_dialect
@pytest.mark.parametrize("fault", ["", "cut"])
async def test_r12_a_stream_without_its_reason_is_a_cut_answer(
    upstream: Upstream, dialect: str, fault: str
) -> None:
    upstream.lines, upstream.fault = _text(dialect, whole=False), fault

    async with _router(upstream, dialect) as router:
        with pytest.raises(AnswerCut):
            await _events(router, _asked())


@pytest.mark.parametrize("dialect", ["anthropic", "openrouter"])
@pytest.mark.parametrize("arguments", ['{"city": "Lis', '{"town": "Lisbon"}', "[1, 2]"])
async def test_r12_a_call_with_broken_arguments_is_never_proposed(
    upstream: Upstream, dialect: str, arguments: str
) -> None:
    upstream.lines = _call(dialect, arguments)
    seen: list[ChatEvent] = []

    async with _router(upstream, dialect) as router:
        with pytest.raises(UpstreamError):
            await _events(router, _asked(TOOL), seen)

    assert not any(isinstance(event, ToolCallProposed | Finished) for event in seen)


@each_dialect
@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        ("401 Unauthorized", UpstreamError, False),
        ("429 Too Many Requests", RateLimited, True),
        ("500 Internal Server Error", UpstreamError, True),
    ],
)
async def test_r11_a_status_becomes_our_error_without_the_key_and_without_retries(
    upstream: Upstream, dialect: str, status: str, kind: type[SoniaError], retryable: bool
) -> None:
    upstream.status, upstream.headers = status, "Retry-After: 7\r\n"
    upstream.lines = [json.dumps({"error": {"type": "x", "message": f"key {KEY} is wrong"}})]

    async with _router(upstream, dialect) as router:
        with pytest.raises(kind) as caught:
            await _events(router, _asked())

    assert caught.value.retryable is retryable
    assert KEY not in caught.value.message
    assert caught.value.__cause__ is None
    assert len(upstream.requests) == 1
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == 7
    elif not retryable and dialect != "ollama":
        assert f"{dialect.upper()}_API_KEY" in caught.value.message


@each_dialect
@pytest.mark.parametrize("junk", ["<html>busy</html>", "{}", "data: {nonsense\n\n"])
async def test_r11_an_answer_that_is_not_the_protocol_is_an_upstream_error(
    upstream: Upstream, dialect: str, junk: str
) -> None:
    upstream.lines = [junk]

    async with _router(upstream, dialect) as router:
        with pytest.raises(UpstreamError):
            await _events(router, _asked())


@each_dialect
async def test_r10_a_provider_that_hangs_meets_the_first_token_deadline(
    upstream: Upstream, dialect: str
) -> None:
    upstream.fault = "hang"

    async with _router(upstream, dialect, first_token_timeout_s=0.3) as router:
        with pytest.raises(UpstreamTimeout):
            await _events(router, _asked())


@each_dialect
async def test_r13_a_provider_that_stalls_meets_the_total_deadline(
    upstream: Upstream, dialect: str
) -> None:
    upstream.lines, upstream.fault = _text(dialect, whole=False), "stall"

    async with _router(upstream, dialect, total_timeout_s=0.5) as router:
        with pytest.raises(UpstreamTimeout):
            await _events(router, _asked())


@each_dialect
async def test_leaving_a_stream_closes_the_connection_upstream(
    upstream: Upstream, dialect: str
) -> None:
    upstream.lines, upstream.fault = _text(dialect, whole=False), "stall"

    async with _router(upstream, dialect) as router:
        async with router.chat(_asked()) as events:
            first = await anext(events)
        async with asyncio.timeout(5):
            await upstream.gone.wait()

    assert isinstance(first, TextDelta)


@each_dialect
async def test_a_provider_that_is_not_there_is_unavailable(
    upstream: Upstream, dialect: str, unused_tcp_port: int
) -> None:
    upstream.url = f"http://127.0.0.1:{unused_tcp_port}"

    async with _router(upstream, dialect) as router:
        with pytest.raises(Unavailable):
            await _events(router, _asked())


async def test_the_second_candidate_answers_when_the_first_fails(upstream: Upstream) -> None:
    upstream.lines = _text("openrouter")
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    config = ModelRouter(
        providers=Providers(local=Local(models=()), openrouter=paid),
        profiles={"chat_low_latency": ("anthropic/claude-sonnet-4-5", "openrouter/openai/gpt-4o")},
    )

    async with _opened(config, upstream, "openrouter") as router:
        events = await _events(router, _asked())

    assert isinstance(events[-1], Finished)
    assert events[-1].model == "openrouter/openai/gpt-4o"


async def test_ollama_embeddings_are_normalised_and_teach_their_dimensions(
    upstream: Upstream,
) -> None:
    upstream.lines = [
        json.dumps({"model": "m", "embeddings": [[3.0, 4.0]], "prompt_eval_count": 1})
    ]

    async with _router(upstream, "ollama") as router:
        upstream.kind = "application/json"
        vectors = await router.embeddings.embed(["hello"])

        assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
        assert router.embeddings.dimensions == 2
        assert router.embeddings.space == "ollama/nomic-embed-text"
