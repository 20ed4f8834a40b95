"""A router that says what it is told to: for tests of what Sonia does with a model's words.

It obeys nothing and knows nothing; `tests/contract/test_router_contract.py` runs it beside the
real one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from sonia.errors import NotFound, SoniaError
from sonia.router import (
    BreakerInfo,
    BudgetInfo,
    BudgetScope,
    ChatEvent,
    ChatRequest,
    Embeddings,
    Finished,
    ModelInfo,
    ProviderInfo,
    Route,
    TextDelta,
    ToolCallProposed,
    UsageRow,
)
from sonia.types import Message, ToolCall, Usage
from tests.memory_given import HashingEmbedder

Step = str | TextDelta | ToolCall | Finished | SoniaError | asyncio.Event

MODEL = "local/scripted"
EMBEDDER = "local/hashing"


class ScriptedRouter:
    """Each call of `chat` plays the next script: pieces of text, a call, an error, a wait."""

    def __init__(self, *scripts: Sequence[Step], context_tokens: int = 4096) -> None:
        self.scripts = [list(script) for script in scripts]
        self.requests: list[ChatRequest] = []
        self.cancelled = 0
        self.asked, self.left = asyncio.Event(), asyncio.Event()
        self._context_tokens = context_tokens
        self._embeddings = HashingEmbedder()

    @property
    def embeddings(self) -> Embeddings:
        return self._embeddings

    def embeddings_of(self, space: str) -> Embeddings | None:
        return None

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.requests.append(request)
        self.asked.set()
        script = self.scripts.pop(0)
        if script and isinstance(script[0], SoniaError):
            raise script[0]
        try:
            yield self._play(script)
        except asyncio.CancelledError:
            self.cancelled += 1
            self.left.set()
            raise

    async def _play(self, script: Sequence[Step]) -> AsyncIterator[ChatEvent]:
        called = False
        for step in script:
            if isinstance(step, asyncio.Event):
                await step.wait()
            elif isinstance(step, SoniaError):
                raise step
            elif isinstance(step, Finished):
                yield step
                return
            elif isinstance(step, TextDelta):
                yield step
            elif isinstance(step, ToolCall):
                called = True
                yield ToolCallProposed(call=step)
            else:
                yield TextDelta(text=step)
        yield Finished(
            model=MODEL,
            provider="local",
            reason="tool_calls" if called else "stop",
            usage=Usage(prompt_tokens=10, completion_tokens=2),
            first_token_ms=1.0,
        )

    async def count_tokens(self, messages: Sequence[Message], model: str | None = None) -> int:
        return sum(4 + len(message.content.split()) for message in messages)

    def context_tokens(self, model: str | None = None, profile: str = "chat_low_latency") -> int:
        return self._context_tokens

    def route(
        self,
        profile: str = "chat_low_latency",
        model: str | None = None,
        *,
        tokens: int = 0,
        images: bool = False,
    ) -> Route:
        return Route(
            profile=profile, model=MODEL, provider="tests", candidates=(MODEL,), reason="scripted"
        )

    def providers(self) -> tuple[ProviderInfo, ...]:
        return (ProviderInfo(name="local", state="ready", models=(MODEL,)),)

    async def usage(self, since: str, user_id: str | None = None) -> tuple[UsageRow, ...]:
        return ()

    def budgets(self) -> tuple[BudgetInfo, ...]:
        return ()

    async def allow(self, scope: BudgetScope, key: str, *, tokens: int, usd: float) -> BudgetInfo:
        raise NotFound("There are no budgets.")

    async def remote_models(self, provider: str) -> tuple[str, ...]:
        return ()

    def breakers(self) -> tuple[BreakerInfo, ...]:
        return ()

    def reset_breaker(self, name: str) -> BreakerInfo:
        raise NotFound(f"No breaker {name!r}.")

    def models(self) -> tuple[ModelInfo, ...]:
        chat = ModelInfo(id=MODEL, provider="local", context_tokens=self._context_tokens)
        vectors = ModelInfo(id=EMBEDDER, provider="local", context_tokens=512, embedding=True)
        return chat, vectors

    async def ready(self, model: str | None = None) -> None:
        return

    async def probe(self) -> dict[str, object]:
        return {}
