"""litellm's chunks as events: text at once, tool calls when they are whole."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from sonia.router.backends.answers import wire_name
from sonia.router.backends.base import fits
from sonia.router.backends.facts import known_facts
from sonia.router.backends.remote_errors import Seam
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    Finished,
    FinishReason,
    TextDelta,
    ToolCallProposed,
)
from sonia.types import ToolCall, Usage, Value, new_id

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}


class _Parts(msgspec.Struct):
    """One tool call while its pieces arrive."""

    id: str = ""
    name: str = ""
    arguments: str = ""


class _Spent(Value):
    """What the provider counted."""

    usage: Usage = Usage()
    cost_usd: float | None = None


async def answer_events(
    wrapper: Any, request: ChatRequest, seam: Seam, *, model: str, started_s: float
) -> AsyncGenerator[ChatEvent, None]:
    """Text as it comes, then the calls, then `Finished`.

    Raises `AnswerCut` for a stream that ends without the provider's own finish reason (litellm
    makes one up) and for a call whose name or arguments are not what was offered.
    """
    calls: dict[int, _Parts] = {}
    first_token_ms: float | None = None
    usage: Any = None
    while (chunk := await _next(wrapper, seam, begun=first_token_ms is not None)) is not None:
        usage = getattr(chunk, "usage", None) or usage
        for choice in chunk.choices:
            if first_token_ms is None and (choice.delta.content or choice.delta.tool_calls):
                first_token_ms = (time.perf_counter() - started_s) * 1000
            _collect(calls, choice.delta.tool_calls or ())
            if choice.delta.content:
                yield TextDelta(text=choice.delta.content)
    reason = _reason(wrapper, seam)
    for parts in calls.values():
        yield ToolCallProposed(call=_whole(parts, request, seam))
    spent = _spent(usage, model)
    yield Finished(
        model=model,
        provider=seam.provider,
        reason="tool_calls" if calls else reason,
        usage=spent.usage,
        first_token_ms=round(first_token_ms or (time.perf_counter() - started_s) * 1000, 2),
        cost_usd=spent.cost_usd,
    )


async def _next(wrapper: Any, seam: Seam, *, begun: bool) -> Any:
    with seam.translated(begun=begun):
        return await anext(wrapper, None)


def _collect(calls: dict[int, _Parts], deltas: Any) -> None:
    for delta in deltas:
        parts = calls.setdefault(delta.index or 0, _Parts())
        parts.id = delta.id or parts.id
        parts.name = delta.function.name or parts.name
        parts.arguments += delta.function.arguments or ""


def _reason(wrapper: Any, seam: Seam) -> FinishReason:
    given = wrapper.received_finish_reason
    if given is None:
        raise seam.cut("it ended without saying why")
    if given not in _REASONS:
        raise seam.cut(f"the provider stopped it ({seam.redacted(str(given))})")
    return _REASONS[given]


def _whole(parts: _Parts, request: ChatRequest, seam: Seam) -> ToolCall:
    tool = next((tool for tool in request.tools if wire_name(tool.name) == parts.name), None)
    if tool is None:
        raise seam.cut("it called a tool that was not offered")
    try:
        arguments = msgspec.json.decode(parts.arguments or "{}")
    except msgspec.DecodeError:
        raise seam.cut(f"the arguments for {tool.name} are not JSON") from None
    if not fits(arguments, tool):
        raise seam.cut(f"the arguments for {tool.name} do not fit its schema")
    return ToolCall(id=parts.id or new_id("call"), name=tool.name, arguments=arguments)


def _spent(usage: Any, model: str) -> _Spent:
    if usage is None:
        return _Spent()
    details = getattr(usage, "prompt_tokens_details", None)
    counted = Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=getattr(details, "cached_tokens", None) or 0,
    )
    facts = known_facts(model)
    price = facts.price if facts else None
    return _Spent(usage=counted, cost_usd=price.cost_usd(counted) if price else None)
