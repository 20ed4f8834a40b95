"""One answer of a local model: choose a tool or speak, and count what it took."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from sonia.errors import UpstreamError
from sonia.router.backends.constraint import Constraint, schema_constraint
from sonia.router.backends.llama import cut, refuse
from sonia.router.backends.stopping import Stops
from sonia.router.backends.toolpick import (
    SAY,
    allowed_tools,
    picked,
    picking_grammar,
    picking_prompt,
    showing_schema,
    speaking_prompt,
)
from sonia.router.backends.toolwords import may_want
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallProposed,
)
from sonia.types import ToolCall, ToolSpec, Usage

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
    tools = allowed_tools(request)
    if tools and (request.tool_choice != "auto" or may_want(tools, request.messages)):
        call = await _pick(local, request, tools, spent)
        if call:
            yield ToolCallProposed(call=call)
            yield spent.finished("tool_calls")
            return
        if spent.reason == "length":
            yield spent.finished()
            return
        spent.begin_again()
    constraint, stops = await _constraint(request), Stops(request.stop)
    async with local.chunks(_speaking(request, constraint)) as chunks:
        async for chunk in chunks:
            made = spent.take(chunk)
            if constraint and made:
                constraint.follow(made)
            if text := stops.take(made):
                yield TextDelta(text=text)
            if stops.found is not None:
                spent.reason = "stop"
                break
    if text := stops.end():
        yield TextDelta(text=text)
    if constraint and spent.reason == "stop" and not (constraint.complete or stops.found):
        raise cut()
    yield spent.finished(stop_sequence=stops.found)


async def _constraint(request: ChatRequest) -> Constraint | None:
    if request.json_schema is None:
        return None
    return await asyncio.to_thread(schema_constraint, request.json_schema)


def _speaking(request: ChatRequest, constraint: Constraint | None) -> Chunk:
    turns = speaking_prompt(request.messages)
    options: dict[str, Any] = {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "top_p": request.top_p,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
    }
    if request.seed is not None:
        options["seed"] = request.seed
    if request.stop:  # looked for here, as the engine doesn't say which it was
        options["timings_per_token"] = True
    if constraint and request.json_schema:
        options["grammar"] = constraint.grammar
        turns = showing_schema(turns, request.json_schema)
    return completion(turns, **options)


async def _pick(
    local: Completing, request: ChatRequest, tools: Sequence[ToolSpec], spent: _Spent
) -> ToolCall | None:
    """The call to make, None to speak or when `max_tokens` cut it (`spent.reason`: length).

    The prompt lists every tool, whichever may be called, so that its beginning stays cached.
    Raises `UpstreamError` when one had to be called and its arguments are not valid.
    """
    may_speak = request.tool_choice == "auto"
    grammar = await asyncio.to_thread(picking_grammar, tools, may_speak=may_speak)
    body = completion(
        picking_prompt(request.messages, request.tools),
        max_tokens=request.max_tokens,
        grammar=grammar,
    )
    says_at_once = not any(tool.name.startswith(SAY) for tool in tools)
    answer = ""
    async with local.chunks(body) as chunks:
        async for chunk in chunks:
            answer += spent.take(chunk)
            if says_at_once and answer == SAY:  # nothing more can come: do not wait for the end
                spent.stopped()
                return None
    call = picked(answer, tools)
    if call is None and not may_speak and spent.reason != "length":
        raise UpstreamError(
            "The local model found no valid arguments for a tool that it had to call."
        )
    return call


class _Spent:
    """What one answer took, summed over its prompts."""

    def __init__(self, model: str, started_s: float) -> None:
        self.reason: FinishReason | None = None
        self._model = model
        self._started_s = started_s
        self._first_token_ms: float | None = None
        self._usage = Usage()  # of the prompts before
        self._this = Usage()
        self._prompt: dict[str, int] = {}

    def begin_again(self) -> None:
        """Nothing of this prompt's answer is shown; the next prompt's is."""
        self.reason = self._first_token_ms = None
        self._usage, self._this = self._sum(), Usage()

    def stopped(self) -> None:
        """Count a prompt that was left after its first token."""
        self.reason = "stop"
        self._count(self._prompt.get("total", 0), 1, self._prompt.get("cache", 0))

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
            self._count(cached + timings["prompt_n"], timings["predicted_n"], cached)
        self._prompt = chunk.get("prompt_progress") or self._prompt
        return text

    def finished(
        self, reason: FinishReason | None = None, *, stop_sequence: str | None = None
    ) -> Finished:
        """Raises `AnswerCut` when the engine gave no reason."""
        final = reason or self.reason
        if final is None:
            raise cut()
        return Finished(
            model=f"local/{self._model}",
            provider="local",
            reason=final,
            usage=self._sum(),
            first_token_ms=round(self._first_token_ms or self._elapsed_ms(), 2),
            stop_sequence=stop_sequence,
        )

    def _count(self, prompt: int, made: int, cached: int) -> None:
        """What the engine says of this prompt; later counts are totals."""
        self._this = Usage(prompt_tokens=prompt, completion_tokens=made, cached_tokens=cached)

    def _sum(self) -> Usage:
        before, this = self._usage, self._this
        return Usage(
            prompt_tokens=before.prompt_tokens + this.prompt_tokens,
            completion_tokens=before.completion_tokens + this.completion_tokens,
            cached_tokens=before.cached_tokens + this.cached_tokens,
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
