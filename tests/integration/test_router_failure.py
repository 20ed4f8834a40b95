"""Every fault at every place of a stream: nothing hangs, nothing is said twice, all is counted."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from router_dialects import MODELS, Upstream, text_lines

from sonia.config import Custom, EmbeddingModel, Local, ModelRouter, Ollama, Paid, Providers, Secret
from sonia.errors import RateLimited, SoniaError, Unavailable, UpstreamError
from sonia.router import ChatRequest, FallbackRouter, Finished, TextDelta, open_router
from sonia.router.backends.refusals import retry_after_s
from sonia.router.backends.remote import load_litellm
from sonia.types import Message
from sonia.weights import Weights

WORDS = ["One ", "two ", "three ", "four ", "five ", "six."]
WHOLE = "".join(WORDS)
ASK = ChatRequest(messages=(Message(role="user", content="Count."),))
JUNK = {"ollama": "{nonsense\n", "anthropic": "data: {nonsense\n\n"}
ERRORS = {
    "ollama": json.dumps({"error": "out of memory"}) + "\n",
    "anthropic": 'data: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}\n\n',
}
OPENAI_ERROR = 'data: {"error":{"code":502,"message":"busy"}}\n\n'
FIRST = ["openai", "openrouter", "anthropic", "ollama", "groq"]


@asynccontextmanager
async def serving(dialect: str = "openai") -> AsyncIterator[Upstream]:
    upstream = Upstream()
    upstream.kind = "application/x-ndjson" if dialect == "ollama" else "text/event-stream"
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield upstream
    finally:
        server.close()


@asynccontextmanager
async def routing(config: ModelRouter) -> AsyncIterator[FallbackRouter]:
    with TemporaryDirectory() as folder:
        async with open_router(config, EmbeddingModel(), Weights(Path(folder))) as router:
            yield router


def one(upstream: Upstream, dialect: str, **settings: Any) -> ModelRouter:
    model, providers = MODELS[dialect]
    profiles = {"chat_low_latency": (model,)}
    return ModelRouter(providers=providers(upstream), profiles=profiles, **settings)


def two(first: Upstream, dialect: str, second: Upstream, **settings: Any) -> ModelRouter:
    config = one(first, dialect, **settings)
    spare = Custom(base_url=f"{second.url}/v1", context_tokens=32_768)
    custom = {**config.providers.custom, "spare": spare}
    providers = msgspec.structs.replace(config.providers, custom=custom)
    profiles = {"chat_low_latency": (MODELS[dialect][0], "spare/m")}
    return msgspec.structs.replace(config, providers=providers, profiles=profiles)


def the_rest(body: dict[str, Any]) -> list[str]:
    """What a model says that is asked to go on: it begins anew, or repeats the last words."""
    said = next((m["content"] for m in body["messages"] if m["role"] == "assistant"), "")
    again = len(said) // 2 if len(said) >= 16 else len(said)
    rest = WHOLE[len(said) - again :]
    return text_lines("openai", [rest[i : i + 3] for i in range(0, len(rest), 3)])


async def answer(router: FallbackRouter, request: ChatRequest = ASK) -> tuple[str, Finished]:
    text: list[str] = []
    async with asyncio.timeout(60), router.chat(request) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                text.append(event.text)
            elif isinstance(event, Finished):
                end = event
    return "".join(text), end


@pytest.mark.parametrize("fault", ["cut", "eof", "junk", "error"])
@pytest.mark.parametrize("dialect", FIRST)
async def test_r12_whatever_breaks_a_stream_and_wherever_the_answer_is_whole_and_said_once(
    dialect: str, fault: str
) -> None:
    if dialect == "groq":
        await load_litellm()  # takes its seconds before the answer's are counted
    lines = text_lines(dialect, WORDS)
    extra = {"junk": JUNK.get(dialect, "data: {nonsense\n\n")}
    extra["error"] = ERRORS.get(dialect, OPENAI_ERROR)
    async with serving(dialect) as first, serving() as second:
        second.respond = the_rest
        config = two(first, dialect, second, retries=0, breaker_failures=1000)
        async with routing(config) as router:
            for index in range(len(lines)):
                last = lines[index - 1] if index else ""
                if '"done": true' in last or "message_stop" in last or "[DONE]" in last:
                    continue
                first.fault = "cut" if fault == "cut" else ""
                first.lines = lines[:index] + ([extra[fault]] if fault in extra else [])
                second.requests.clear()
                first.requests.clear()

                text, end = await answer(router)

                ends = fault in ("eof", "cut") or dialect == "groq"  # litellm reads no further
                finished = ends and end.provider != "spare"
                assert text == WHOLE, (index, text)
                assert len(first.requests) == 1
                assert len(second.requests) == (0 if finished else 1)


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        ("401 Unauthorized", 1),
        ("400 Bad Request", 1),
        ("404 Not Found", 1),
        ("429 Too Many Requests", 3),
        ("500 Internal Server Error", 3),
        ("503 Service Unavailable", 3),
    ],
)
async def test_r11_only_what_may_pass_is_asked_again_and_only_so_often(
    status: str, calls: int
) -> None:
    async with serving() as upstream:
        upstream.status, upstream.headers = status, "Retry-After: 0\r\n"
        async with routing(one(upstream, "openrouter", retries=2)) as router:
            router._patience = msgspec.structs.replace(router._patience, pause=_at_once)
            with pytest.raises(SoniaError):
                await answer(router)

        assert len(upstream.requests) == calls


async def test_r11_a_retry_after_is_waited_for_unless_it_is_too_long() -> None:
    waits: list[float] = []

    async def pause(seconds: float) -> None:
        waits.append(seconds)

    async with serving() as upstream:
        upstream.status, upstream.headers = "429 Too Many Requests", "Retry-After: 7\r\n"
        async with routing(one(upstream, "openrouter", retries=1)) as router:
            router._patience = msgspec.structs.replace(router._patience, pause=pause)
            with pytest.raises(RateLimited):
                await answer(router)
            upstream.headers = "Retry-After: 3600\r\n"
            with pytest.raises(RateLimited):
                await answer(router)

    assert waits == [7.0]


def test_a_retry_after_may_be_a_date() -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 90))

    assert 85 <= retry_after_s(date) <= 90
    assert retry_after_s("Fri, 31 Dec 1999 23:59:59 GMT") == 0
    assert [retry_after_s(text) for text in ("2", "0.4", "", "soon", "-1")] == [2, 0, 1, 1, 0]


async def test_r14_a_hundred_calls_ask_a_dead_provider_no_more_than_a_few_times() -> None:
    async with serving() as upstream:
        upstream.status = "500 Internal Server Error"
        config = one(upstream, "openrouter", retries=0, breaker_failures=4)
        async with routing(config) as router:
            calls = [answer(router) for _ in range(100)]
            ends = await asyncio.gather(*calls, return_exceptions=True)

            assert len(upstream.requests) == 4
            assert all(isinstance(end, UpstreamError | Unavailable) for end in ends)
            assert router.breakers()[2].state == "open"
            assert "left alone" in router.route().reason
            upstream.status, upstream.lines = "200 OK", text_lines("openrouter")
            assert router.reset_breaker("openrouter").state == "closed"
            assert (await answer(router))[0] == "Hello there"


@pytest.mark.parametrize("dialect", FIRST)
async def test_a_caller_that_leaves_is_noticed_upstream_at_once(dialect: str) -> None:
    async with serving(dialect) as upstream:
        upstream.lines, upstream.fault = text_lines(dialect, whole=False), "stall"
        async with routing(one(upstream, dialect)) as router:
            began = asyncio.Event()

            async def listen() -> None:
                async with router.chat(ASK) as events:
                    async for _ in events:
                        began.set()

            caller = asyncio.create_task(listen())
            await began.wait()
            caller.cancel()
            async with asyncio.timeout(60):
                await upstream.gone.wait()
            await asyncio.gather(caller, return_exceptions=True)


async def test_an_answer_taken_whole_is_one_document_upstream() -> None:
    async with serving() as upstream:
        upstream.kind = "application/json"
        message = {"role": "assistant", "content": WHOLE}
        usage = {"prompt_tokens": 9, "completion_tokens": 6, "prompt_tokens_details": None}
        body = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
        upstream.lines = [json.dumps(body)]
        async with routing(one(upstream, "openai")) as router:
            text, end = await answer(router, msgspec.structs.replace(ASK, whole=True))

    assert text == WHOLE
    assert (end.usage.prompt_tokens, end.usage.completion_tokens) == (9, 6)
    assert "stream" not in upstream.requests[0]


async def test_offline_nothing_outside_this_machine_is_called(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialled: list[Any] = []
    looked_up: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def recorded(self: socket.socket, address: Any) -> Any:
        dialled.append(address)
        return connect(self, address)

    def asked(host: Any, *args: Any, **options: Any) -> Any:
        looked_up.append(host)
        return look_up(host, *args, **options)

    loop = asyncio.get_running_loop()
    by_loop = loop.sock_connect

    async def sock_connect(sock: socket.socket, address: Any) -> Any:
        dialled.append(address)
        return await by_loop(sock, address)

    async with serving("ollama") as upstream:
        upstream.lines = text_lines("ollama")
        paid = Paid(api_key=Secret("sk-canary-1234567890"))
        foreign = Custom(dialect="litellm", api_key=Secret("sk-canary-1234567890"))
        providers = Providers(
            local=Local(models=()),
            ollama=Ollama(base_url=upstream.url),
            anthropic=paid,
            openai=paid,
            openrouter=paid,
            custom={
                "away": Custom(base_url="https://198.51.100.7/v1", context_tokens=1000),
                "gemini": foreign,
            },
        )
        names = ("anthropic/a", "openai/b", "openrouter/c/d", "away/e", "gemini/f")
        config = ModelRouter(
            providers=providers,
            offline=True,
            profiles={"chat_low_latency": (*names, "ollama/llama3")},
        )
        monkeypatch.setattr(socket.socket, "connect", recorded)
        monkeypatch.setattr(socket, "getaddrinfo", asked)
        monkeypatch.setattr(loop, "sock_connect", sock_connect)
        async with routing(config) as router:
            _, end = await answer(router)
            for name in names:
                with pytest.raises(Unavailable, match="offline"):
                    await answer(router, msgspec.structs.replace(ASK, model=name))

    assert end.provider == "ollama"
    assert dialled
    assert {address[0] for address in dialled} == {"127.0.0.1"}
    assert not looked_up


async def _at_once(seconds: float) -> None:
    await asyncio.sleep(0)
