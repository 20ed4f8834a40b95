"""Remote providers against servers that speak their protocols, and break them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec
import pytest
from router_dialects import KEY, MODELS, TOOL, Upstream, call_lines, json_lines, text_lines

from sonia.config import EmbeddingModel, Local, ModelRouter, Ollama, Paid, Providers, Secret
from sonia.errors import (
    InvalidRequest,
    RateLimited,
    SoniaError,
    Unavailable,
    UpstreamError,
    UpstreamTimeout,
)
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


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    made = Upstream()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    yield made
    server.close()


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
        providers = msgspec.structs.replace(config.providers, ollama=ollama)
        config = msgspec.structs.replace(config, providers=providers)
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
    upstream.lines = text_lines(dialect)

    async with _router(upstream, dialect) as router:
        events = await _events(router, _asked())

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Hello there"
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.provider) == ("stop", dialect)
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (11, 5)
    unknown = dict.fromkeys(("house", "groq"))
    prices = {"ollama": 0.0, "anthropic": 108e-6, **unknown}
    assert end.cost_usd == pytest.approx(prices.get(dialect, 77.5e-6))


@each_dialect
async def test_a_tool_call_is_assembled_from_its_pieces(upstream: Upstream, dialect: str) -> None:
    upstream.lines = call_lines(dialect, '{"city": "Lisbon"}')

    async with _router(upstream, dialect) as router:
        events = await _events(router, _asked(TOOL))

    calls = [event.call for event in events if isinstance(event, ToolCallProposed)]
    assert [(call.name, call.arguments) for call in calls] == [("clock.read", {"city": "Lisbon"})]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"


@each_dialect
async def test_a_tools_result_reaches_the_provider(upstream: Upstream, dialect: str) -> None:
    upstream.lines = text_lines(dialect)
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
    upstream.lines, upstream.fault = text_lines(dialect, whole=False), fault

    async with _router(upstream, dialect) as router:
        with pytest.raises(AnswerCut):
            await _events(router, _asked())


@pytest.mark.parametrize("dialect", ["anthropic", "openrouter"])
@pytest.mark.parametrize("arguments", ['{"city": "Lis', '{"town": "Lisbon"}', "[1, 2]"])
async def test_r12_a_call_with_broken_arguments_is_never_proposed(
    upstream: Upstream, dialect: str, arguments: str
) -> None:
    upstream.lines = call_lines(dialect, arguments)
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
async def test_r11_a_status_becomes_our_error_without_the_key(
    upstream: Upstream, dialect: str, status: str, kind: type[SoniaError], retryable: bool
) -> None:
    upstream.status, upstream.headers = status, "Retry-After: 7\r\n"
    upstream.lines = [json.dumps({"error": {"type": "x", "message": f"key {KEY} is wrong"}})]

    async with _router(upstream, dialect, retries=0) as router:
        with pytest.raises(kind) as caught:
            await _events(router, _asked())

    assert caught.value.retryable is retryable
    assert KEY not in caught.value.message
    assert caught.value.__cause__ is None
    assert len(upstream.requests) == 1
    if isinstance(caught.value, RateLimited):
        assert caught.value.retry_after_s == 7
    elif not retryable and dialect not in ("ollama", "house", "groq"):
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
    upstream.lines, upstream.fault = text_lines(dialect, whole=False), "stall"

    async with _router(upstream, dialect, total_timeout_s=0.5) as router:
        with pytest.raises(UpstreamTimeout):
            await _events(router, _asked())


@each_dialect
async def test_leaving_a_stream_closes_the_connection_upstream(
    upstream: Upstream, dialect: str
) -> None:
    upstream.lines, upstream.fault = text_lines(dialect, whole=False), "stall"

    async with _router(upstream, dialect) as router:
        async with router.chat(_asked()) as events:
            first = await anext(events)
        async with asyncio.timeout(60):
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
    upstream.lines = text_lines("openrouter")
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


@each_dialect
async def test_the_sampling_that_was_chosen_reaches_the_provider(
    upstream: Upstream, dialect: str
) -> None:
    upstream.lines = text_lines(dialect)
    request = msgspec.structs.replace(_asked(), top_p=0.5, stop=("END",), seed=7)

    async with _router(upstream, dialect) as router:
        await _events(router, request)

    sent = upstream.requests[-1]
    sent |= sent.get("options", {})
    assert sent["top_p"] == 0.5
    assert sent.get("stop", sent.get("stop_sequences")) == ["END"]
    assert sent.get("seed", 7) == 7
    assert ("seed" in sent) == (dialect != "anthropic")  # which has none


@pytest.mark.parametrize(
    ("choice", "openrouter", "anthropic"),
    [
        (
            TOOL.name,
            {"type": "function", "function": {"name": "clock_read"}},
            {"type": "tool", "name": "clock_read"},
        ),
        ("required", "required", {"type": "any"}),
        ("none", "none", {"type": "none"}),
    ],
)
@pytest.mark.parametrize("dialect", ["openrouter", "anthropic"])
async def test_a_tool_choice_reaches_the_provider(
    upstream: Upstream, dialect: str, choice: str, openrouter: Any, anthropic: Any
) -> None:
    upstream.lines = text_lines(dialect)
    request = msgspec.structs.replace(_asked(TOOL), tool_choice=choice)

    async with _router(upstream, dialect) as router:
        await _events(router, request)

    sent = upstream.requests[-1]["tool_choice"]
    assert sent == (openrouter if dialect == "openrouter" else anthropic)


CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


# Ollama can't, and litellm refuses it for most of its models, with its own words.
@pytest.mark.parametrize("dialect", [name for name in MODELS if name not in ("ollama", "groq")])
async def test_either_a_tool_is_called_or_the_answer_has_its_form(
    upstream: Upstream, dialect: str
) -> None:
    request = msgspec.structs.replace(_asked(TOOL), json_schema=CITY)
    upstream.lines = call_lines(dialect, '{"city": "Lisbon"}')

    async with _router(upstream, dialect) as router:
        called = await _events(router, request)
        upstream.lines = json_lines(dialect, '{"city": "Porto"}')
        told = await _events(router, request)

    assert [event.call.name for event in called if isinstance(event, ToolCallProposed)] == [
        TOOL.name
    ]
    assert "".join(e.text for e in told if isinstance(e, TextDelta)) == '{"city": "Porto"}'
    assert [event.reason for event in (called[-1], told[-1]) if isinstance(event, Finished)] == [
        "tool_calls",
        "stop",
    ]
    sent = upstream.requests[-1]
    offered = [tool.get("name") or tool["function"]["name"] for tool in sent["tools"]]
    assert offered[0] == "clock_read"
    if dialect == "anthropic":
        assert offered[1:] == ["json_answer"]
        assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    else:
        assert sent["response_format"]["json_schema"]["schema"] == CITY


async def test_ollama_is_not_asked_for_a_form_and_tools_at_once(upstream: Upstream) -> None:
    request = msgspec.structs.replace(_asked(TOOL), json_schema=CITY)

    async with _router(upstream, "ollama") as router:
        with pytest.raises(InvalidRequest, match="not both"):
            await _events(router, request)


async def test_what_anthropic_can_not_do_is_refused(upstream: Upstream) -> None:
    async with _router(upstream, "anthropic") as router:
        for change in ({"frequency_penalty": 1.0}, {"presence_penalty": 1.0}, {"top_logprobs": 1}):
            with pytest.raises(InvalidRequest, match="Anthropic"):
                await _events(router, msgspec.structs.replace(_asked(), **change))

    assert not upstream.requests


async def test_anthropic_tells_which_stop_sequence_ended_the_answer(upstream: Upstream) -> None:
    lines = text_lines("anthropic")
    upstream.lines = [
        line.replace('"end_turn", "stop_sequence": null', '"stop_sequence", "stop_sequence": "END"')
        for line in lines
    ]
    request = msgspec.structs.replace(_asked(), stop=("END",))

    async with _router(upstream, "anthropic") as router:
        end = (await _events(router, request))[-1]

    assert isinstance(end, Finished)
    assert (end.reason, end.stop_sequence) == ("stop", "END")


async def test_ollama_is_offered_no_tools_when_none_may_be_called(upstream: Upstream) -> None:
    upstream.lines = text_lines("ollama")
    request = msgspec.structs.replace(_asked(TOOL), tool_choice="none")

    async with _router(upstream, "ollama") as router:
        await _events(router, request)

    assert "tools" not in upstream.requests[-1]


@pytest.mark.parametrize("choice", ["required", TOOL.name])
async def test_what_ollama_cant_be_made_to_do_is_refused(upstream: Upstream, choice: str) -> None:
    request = msgspec.structs.replace(_asked(TOOL), tool_choice=choice)

    async with _router(upstream, "ollama") as router:
        with pytest.raises(InvalidRequest, match="tool_choice"):
            await _events(router, request)

    assert upstream.requests == []


async def test_a_providers_embeddings_are_put_in_order_and_normalised(upstream: Upstream) -> None:
    rows = [
        {"object": "embedding", "index": 1, "embedding": [0.0, 2.0]},
        {"object": "embedding", "index": 0, "embedding": [3.0, 4.0]},
    ]
    usage = {"prompt_tokens": 2, "total_tokens": 2}
    body = {"object": "list", "model": "m", "data": rows, "usage": usage}
    upstream.lines, upstream.kind = [json.dumps(body)], "application/json"
    embeddings = EmbeddingModel(
        provider="openai", model="m", base_url=upstream.url, api_key=Secret(KEY)
    )
    config = ModelRouter(providers=Providers(local=Local(models=())), profiles={})

    async with open_router(config, embeddings, Weights(config_folder())) as router:
        vectors = await router.embeddings.embed(["hello", "there"])
        spaces = [router.embeddings_of(space) for space in ("openai/m", "ollama/x", "unknown")]

    assert vectors.round(6).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 1.0]]
    assert spaces == [router.embeddings, None, None]
    assert router.embeddings.space == "openai/m"


@pytest.mark.parametrize("provider", ["openai", "ollama"])
async def test_offline_no_provider_is_sent_what_is_remembered(provider: str) -> None:
    embeddings = EmbeddingModel(
        provider=provider, model="m", api_key=Secret(KEY), base_url="http://vectors.example:11434"
    )
    config = ModelRouter(providers=Providers(local=Local(models=())), profiles={}, offline=True)

    async with open_router(config, embeddings, Weights(config_folder())) as router:
        with pytest.raises(Unavailable, match="offline is true"):
            await router.embeddings.embed(["hello"])
