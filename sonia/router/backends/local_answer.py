"""One answer of a local model: choose a tool or speak, and count what it took."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sonia.router.backends.llama import cut, refuse
from sonia.router.backends.toolpick import (
    PICK_TOKENS,
    SAY,
    picked,
    picking_grammar,
    picking_prompt,
    speaking_prompt,
)
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallProposed,
)
from sonia.types import ToolCall, Usage

Chunk = dict[str, Any]


class Completing(Protocol):
    """A model that completes one prompt at a time."""

    @property
    def name(self) -> str: ...

    def chunks(self, body: Chunk) -> AbstractAsyncContextManager[AsyncIterator[Chunk]]:
        """Enter to start a completion; leave to stop it."""
        ...


async def answer_events(
    local: Completing, request: ChatRequest, started_s: float
) -> AsyncGenerator[ChatEvent, None]:
    spent = _Spent(local.name, started_s)
    if request.tools and request.messages and request.messages[-1].role == "user":
        call = await _pick(local, request, spent)
        if call:
            yield ToolCallProposed(call=call)
            yield spent.finished("tool_calls")
            return
    body = completion(
        speaking_prompt(request.messages),
        max_tokens=request.max_tokens,
        temperature=request.temperature,
    )
    if request.json_schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"schema": request.json_schema},
        }
    async with local.chunks(body) as chunks:
        async for chunk in chunks:
            if text := spent.take(chunk):
                yield TextDelta(text=text)
    yield spent.finished()


async def _pick(local: Completing, request: ChatRequest, spent: _Spent) -> ToolCall | None:
    body = completion(
        picking_prompt(request.messages, request.tools),
        max_tokens=PICK_TOKENS,
        grammar=picking_grammar(request.tools),
    )
    answer = ""
    async with local.chunks(body) as chunks:
        async for chunk in chunks:
            answer += spent.take(chunk)
            if answer == SAY:  # the grammar has nothing more: do not wait for the end
                spent.stopped()
                break
    call = picked(answer, request.tools)
    if call is None:
        spent.begin_again()
    return call


class _Spent:
    """What one answer took, summed over its prompts."""

    def __init__(self, model: str, started_s: float) -> None:
        self.reason: FinishReason | None = None
        self._model = model
        self._started_s = started_s
        self._first_token_ms: float | None = None
        self._usage = Usage()
        self._prompt: dict[str, int] = {}

    def begin_again(self) -> None:
        """Nothing of this prompt's answer is shown; the next prompt's is."""
        self.reason = self._first_token_ms = None

    def stopped(self) -> None:
        """Count a prompt that was left after its first token."""
        self._add(self._prompt.get("total", 0), 1, self._prompt.get("cache", 0))

    def take(self, chunk: Chunk) -> str:
        """The chunk's text. Raises what the engine refused."""
        if "error" in chunk:
            refuse(chunk["error"])
        text = ""
        for choice in chunk.get("choices", ()):
            text += choice["delta"].get("content") or ""
            self.reason = choice.get("finish_reason") or self.reason
        if text and self._first_token_ms is None:
            self._first_token_ms = self._elapsed_ms()
        if timings := chunk.get("timings"):
            cached = timings["cache_n"]
            self._add(cached + timings["prompt_n"], timings["predicted_n"], cached)
        self._prompt = chunk.get("prompt_progress") or self._prompt
        return text

    def finished(self, reason: FinishReason | None = None) -> Finished:
        """Raises `AnswerCut` when the engine gave no reason."""
        final = reason or self.reason
        if final is None:
            raise cut()
        return Finished(
            model=f"local/{self._model}",
            provider="local",
            reason=final,
            usage=self._usage,
            first_token_ms=round(self._first_token_ms or self._elapsed_ms(), 2),
        )

    def _add(self, prompt: int, made: int, cached: int) -> None:
        self._usage = Usage(
            prompt_tokens=self._usage.prompt_tokens + prompt,
            completion_tokens=self._usage.completion_tokens + made,
            cached_tokens=self._usage.cached_tokens + cached,
        )

    def _elapsed_ms(self) -> float:
        return (time.perf_counter() - self._started_s) * 1000


def completion(messages: list[dict[str, str]], **options: Any) -> Chunk:
    return {
        "messages": messages,
        "stream": True,
        "cache_prompt": True,
        "return_progress": True,
        "temperature": 0.0,
        **options,
    }
