"""Messages on their way out: whole, or as Anthropic's sequence of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any

import msgspec

from sonia.client import UntilGone
from sonia.dialects import anthropic_error
from sonia.envelope import correlation_id
from sonia.errors import SoniaError
from sonia.gateway.answering import Answer, Answers
from sonia.gateway.anthropic_messages import WantedMessage
from sonia.gateway.openai_answers import cache_header
from sonia.gateway.sending import Header, send_events, send_whole
from sonia.router import Finished, TextDelta, ToolCallProposed
from sonia.types import ToolCall, Usage, new_id

_encode = msgspec.json.encode
_REASONS = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_SAYS = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":'


async def send_message(answers: Answers, wanted: WantedMessage, receive: Any, send: Any) -> None:
    """Answer `POST /v1/messages`."""
    if wanted.stream:
        headers: list[Header] = []
        chunks = _events(answers, wanted, headers)
        await send_events(receive, send, chunks, headers, failure_event)
        return
    async with UntilGone(receive):
        answer = await answers.whole(wanted.asked, one_call=wanted.one_call)
    await send_whole(send, _encode(_whole(answer)), cache_header(answer.cache))


def failure_event(error: SoniaError) -> bytes:
    """What a broken stream ends with; the SDKs raise it."""
    return _event("error", anthropic_error(error, correlation_id()))


def _whole(answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if answer.text or not answer.calls:
        content.append({"type": "text", "text": answer.text, "citations": None})
    content += [{**_call(call), "input": call.arguments} for call in answer.calls]
    end = answer.finished
    return _message(end.model, content, _stopped(end), _usage(end.usage))


def _message(
    model: str, content: list[dict[str, Any]], stopped: dict[str, Any], usage: dict[str, int]
) -> dict[str, Any]:
    return {
        "id": new_id("msg"),
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": content,
        **stopped,
        "usage": usage,
    }


def _stopped(end: Finished | None) -> dict[str, Any]:
    """Why it ended; of a stop sequence that nobody told only that the turn is over."""
    reason = _REASONS[end.reason] if end else None
    sequence = end.stop_sequence if end else None
    return {
        "stop_reason": "stop_sequence" if sequence is not None else reason,
        "stop_sequence": sequence,
    }


def _usage(usage: Usage) -> dict[str, int]:
    """Cached tokens are counted beside the input's, not among them."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens - usage.cache_write_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _call(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), _encode(data))


def _begins(index: int, block: dict[str, Any]) -> bytes:
    data = {"type": "content_block_start", "index": index, "content_block": block}
    return _event("content_block_start", data)


def _stops(index: int) -> bytes:
    return _event("content_block_stop", {"type": "content_block_stop", "index": index})


async def _events(
    answers: Answers, wanted: WantedMessage, headers: list[Header]
) -> AsyncGenerator[bytes, None]:
    index, speaking, calls = 0, False, 0
    async with answers.open(wanted.asked) as opened:
        headers += cache_header(opened.cache)
        message = _message(wanted.asked.target.shown, [], _stopped(None), _usage(Usage()))
        yield _event("message_start", {"type": "message_start", "message": message}) + _PING
        async for event in opened.events:
            if isinstance(event, TextDelta):
                begins = b"" if speaking else _begins(index, {"type": "text", "text": ""})
                speaking = True
                delta = b'{"type":"text_delta","text":%s}}\n\n' % _encode(event.text)
                yield begins + _SAYS % index + delta
            elif isinstance(event, ToolCallProposed):
                if calls and wanted.one_call:
                    continue
                ends = b""
                if speaking:
                    ends, index, speaking = _stops(index), index + 1, False
                yield ends + _tool_use(index, event.call)
                index, calls = index + 1, calls + 1
            else:
                yield (_stops(index) if speaking else b"") + _ends(event)


def _tool_use(index: int, call: ToolCall) -> bytes:
    arguments = _encode(call.arguments).decode()
    delta = _encode({"type": "input_json_delta", "partial_json": arguments})
    return _begins(index, _call(call)) + _SAYS % index + delta + b"}\n\n" + _stops(index)


def _ends(finished: Finished) -> bytes:
    data = {"type": "message_delta", "delta": _stopped(finished), "usage": _usage(finished.usage)}
    return _event("message_delta", data) + _event("message_stop", {"type": "message_stop"})
