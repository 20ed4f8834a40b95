"""From a client through the gateway and the router to a provider's own wire, and back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from router_dialects import KEY, MODELS, Upstream, text_lines

from sonia.config import EmbeddingModel, ModelRouter
from sonia.gateway.answering import Answers
from sonia.gateway.openai import openai_routes
from sonia.router import open_router
from sonia.weights import Weights
from tests.serving import serving

MODEL, PROVIDERS = MODELS["openrouter"]
ASKS: list[Any] = [{"role": "user", "content": "Hello"}]


@asynccontextmanager
async def relay(upstream: Upstream, tmp_path: Any, **settings: Any) -> AsyncIterator[str]:
    """Enter for the URL of a gateway whose one provider is `upstream`."""
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    config = ModelRouter(
        providers=PROVIDERS(upstream), profiles={"chat_low_latency": (MODEL,)}, **settings
    )
    turns: Any = None
    async with (
        open_router(config, EmbeddingModel(), Weights(tmp_path)) as router,
        serving(openai_routes(Answers(router, turns, (), None))) as url,
    ):
        yield url
    server.close()


async def test_an_answer_comes_through_and_the_providers_key_does_not(tmp_path: Any) -> None:
    upstream = Upstream()
    upstream.lines = text_lines("openrouter")
    async with relay(upstream, tmp_path) as url, httpx.AsyncClient() as client:
        body = {"model": MODEL, "messages": ASKS, "stream": True}
        answer = await client.post(f"{url}/v1/chat/completions", json=body)

    assert '"content":"Hello' in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert KEY not in answer.text + str(answer.headers)
    assert [message["content"] for message in upstream.requests[0]["messages"]] == ["Hello"]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_is_noticed_by_the_provider_at_once(
    tmp_path: Any, stream: bool
) -> None:
    upstream = Upstream()
    upstream.fault = "stall"
    upstream.lines = text_lines("openrouter", whole=False)
    async with relay(upstream, tmp_path) as url, httpx.AsyncClient() as client:
        body = {"model": MODEL, "messages": ASKS, "stream": stream}
        asking = asyncio.create_task(client.post(f"{url}/v1/chat/completions", json=body))
        await upstream.asked.wait()
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            await upstream.gone.wait()


@pytest.mark.parametrize(
    ("status", "raised"),
    [
        ("401 Unauthorized", openai.InternalServerError),  # our key is no fault of the client's
        ("404 Not Found", openai.NotFoundError),
        ("429 Too Many Requests", openai.RateLimitError),
        ("500 Internal Server Error", openai.InternalServerError),
    ],
)
async def test_what_a_provider_refuses_is_told_in_the_clients_classes(
    tmp_path: Any, status: str, raised: type[openai.APIStatusError]
) -> None:
    upstream = Upstream()
    upstream.status, upstream.kind = status, "application/json"
    upstream.lines = ['{"error": {"message": "no", "code": 1}}']
    async with (
        relay(upstream, tmp_path, retries=0) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client,
    ):
        with pytest.raises(raised) as refused:
            await client.chat.completions.create(model=MODEL, messages=ASKS)

    assert KEY not in str(refused.value)
