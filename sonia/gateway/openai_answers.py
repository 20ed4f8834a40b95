"""Chat completions on their way out: whole, or chunk by chunk at little cost for each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import msgspec

from sonia.client import UntilGone
from sonia.dialects import openai_error
from sonia.errors import SoniaError
from sonia.gateway.answering import Answer, Answers
from sonia.gateway.openai_chat import Completion, another, call_object
from sonia.gateway.sending import Header, send_events, send_whole
from sonia.router import Finished, TextDelta, TokenLikelihood, ToolCallProposed
from sonia.types import Usage, random_hex

_encode = msgspec.json.encode
_DONE = b"data: [DONE]\n\n"


def cache_header(cache: str) -> tuple[Header, ...]:
    """`x-sonia-cache`, where an answer could have been kept."""
    return ((b"x-sonia-cache", cache.encode()),) if cache else ()


def failure_event(error: SoniaError) -> bytes:
    """What a broken stream ends with; the SDKs raise it. No `[DONE]` follows."""
    return b"data: %s\n\n" % _encode({"error": openai_error(error)})


async def send_completion(answers: Answers, wanted: Completion, receive: Any, send: Any) -> None:
    """Answer `POST /v1/chat/completions`."""
    if wanted.stream:
        headers: list[Header] = []
        await send_events(receive, send, _chunks(answers, wanted, headers), headers, failure_event)
        return
    async with UntilGone(receive):
        if wanted.choices == 1:
            found = [await answers.whole(wanted.asked, one_call=wanted.one_call)]
        else:
            found = await _several(answers, wanted)
    await send_whole(send, _body(found), cache_header(found[0].cache))


async def _several(answers: Answers, wanted: Completion) -> list[Answer]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(
                    answers.whole(another(wanted.asked, index), one_call=wanted.one_call)
                )
                for index in range(wanted.choices)
            ]
    except* SoniaError as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]


def usage_object(usages: Sequence[Usage]) -> dict[str, Any]:
    """Tokens of one prompt, which all choices share, and of all answers."""
    prompt = usages[0].prompt_tokens
    made = sum(usage.completion_tokens for usage in usages)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": made,
        "total_tokens": prompt + made,
        "prompt_tokens_details": {"cached_tokens": usages[0].cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages),
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def _body(found: Sequence[Answer]) -> bytes:
    return _encode(
        {
            "id": _new_id(),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": found[0].finished.model,
            "choices": [_choice(answer, index) for index, answer in enumerate(found)],
            "usage": usage_object([answer.finished.usage for answer in found]),
            "system_fingerprint": None,
            "service_tier": "default",
        }
    )


def _choice(answer: Answer, index: int) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or (None if answer.calls else ""),
        "refusal": None,
        "annotations": [],
    }
    if answer.calls:
        message["tool_calls"] = [call_object(call) for call in answer.calls]
    return {
        "index": index,
        "message": message,
        "logprobs": logprobs_object(answer.logprobs),
        "finish_reason": answer.finished.reason,
    }


def logprobs_object(likely: Sequence[TokenLikelihood]) -> dict[str, Any] | None:
    """How likely each token was; None where nobody asked."""
    if not likely:
        return None
    content = []
    for token in likely:
        row = msgspec.to_builtins(token)
        row["top_logprobs"] = row.pop("top")
        content.append(row)
    return {"content": content, "refusal": None}


async def _chunks(
    answers: Answers, wanted: Completion, headers: list[Header]
) -> AsyncGenerator[bytes, None]:
    """The stream; choices come one after the other. Nothing is built anew for a piece of text."""
    head = b'data: {"id":"%s","object":"chat.completion.chunk","created":%d,"model":' % (
        _new_id().encode(),
        int(time.time()),
    )
    named = b'%s,"system_fingerprint":null,"service_tier":"default"'
    start = head + named % _encode(wanted.asked.target.shown)
    end = b',"usage":null}\n\n' if wanted.include_usage else b"}\n\n"
    usages: list[Usage] = []
    for index in range(wanted.choices):
        opening = start + b',"choices":[{"index":%d,"delta":' % index
        closing = b',"logprobs":null,"finish_reason":null}]' + end
        saying, said = opening + b'{"content":', b"}" + closing
        first = opening + b'{"role":"assistant","content":"","refusal":null}' + closing
        silent = opening + b'{"role":"assistant","content":null,"refusal":null}' + closing
        async with answers.open(another(wanted.asked, index)) as opened:
            headers += cache_header(opened.cache)
            calls = 0
            async for event in opened.events:
                if isinstance(event, TextDelta) and event.logprobs:
                    delta = {"content": event.text}
                    likely = b',"logprobs":%s,"finish_reason":null}]' % _encode(
                        logprobs_object(event.logprobs)
                    )
                    yield first + opening + _encode(delta) + likely + end
                    first = b""
                elif isinstance(event, TextDelta):
                    yield first + saying + _encode(event.text) + said
                    first = b""
                elif isinstance(event, ToolCallProposed):
                    if calls and wanted.one_call:
                        continue
                    called = {"tool_calls": [{"index": calls, **call_object(event.call)}]}
                    yield (first and silent) + opening + _encode(called) + closing
                    first, calls = b"", calls + 1
                else:
                    start = head + named % _encode(event.model)
                    usages.append(event.usage)
                    yield first + _last(start, index, event, end)
    if wanted.include_usage:
        yield start + b',"choices":[],"usage":%s}\n\n' % _encode(usage_object(usages))
    yield _DONE


def _last(start: bytes, index: int, finished: Finished, end: bytes) -> bytes:
    """The chunk with the reason: it names the model that really answered."""
    choice = b',"choices":[{"index":%d,"delta":{},"logprobs":null,"finish_reason":"%s"}]' % (
        index,
        finished.reason.encode(),
    )
    return start + choice + end


def _new_id() -> str:
    return f"chatcmpl-{random_hex()}"
