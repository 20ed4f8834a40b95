"""OpenAI's chat completions: OpenAI itself, OpenRouter, and everybody who took the format over."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sonia.router.backends.answers import Answer, offered, wire_name
from sonia.router.backends.dialect import Reader
from sonia.router.backends.lines import ServerSentData
from sonia.router.interface import (
    ChatEvent,
    ChatRequest,
    FinishReason,
    Likelihood,
    TextDelta,
    TokenLikelihood,
)
from sonia.types import Message, Usage

_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "content_filter": "content_filter",
}
# OpenAI's reasoning models refuse a choice of sampling.
_REASONING = re.compile(r"^(o\d|gpt-[5-9](?!.*chat))")
SAMPLING = ("top_p", "frequency_penalty", "presence_penalty")
_DEFAULTS = ChatRequest(messages=())


class OpenAiDialect:
    """`own` is OpenAI's own server, which has new names for some things."""

    prefills = False

    def __init__(self, *, own: bool = False, counts_cost: bool = False) -> None:
        self._own = own
        self._counts_cost = counts_cost

    def path(self, base_url: str) -> str:
        return f"{base_url.rstrip('/')}/chat/completions"

    def headers(self, api_key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, model: str, request: ChatRequest) -> bytes:
        sent: dict[str, Any] = {
            "model": model,
            "messages": [wire_message(message) for message in request.messages],
            "max_completion_tokens" if self._own else "max_tokens": request.max_tokens,
        }
        if not request.whole:
            sent["stream"] = True
            sent["stream_options"] = {"include_usage": True}
        if self._counts_cost:
            sent["usage"] = {"include": True}
        if not (self._own and _REASONING.match(model)):
            sent["temperature"] = request.temperature
            sent |= wire_chosen(request, SAMPLING)
        sent |= wire_chosen(request, ("seed", "reasoning_effort", "verbosity"))
        if request.stop:
            sent["stop"] = request.stop
        if request.top_logprobs is not None:
            sent["logprobs"], sent["top_logprobs"] = True, request.top_logprobs
        if request.tools:
            sent |= wire_tools(request)
        if format := wire_format(request):
            sent["response_format"] = format
        return msgspec.json.encode(sent)

    def reader(self, answer: Answer) -> Reader:
        return _Whole(answer) if answer.request.whole else _Stream(answer)


def wire_chosen(request: ChatRequest, names: tuple[str, ...] = SAMPLING) -> dict[str, Any]:
    """What the request chose; what it left alone is the provider's to choose."""
    chosen = {name: getattr(request, name) for name in names}
    return {key: value for key, value in chosen.items() if value != getattr(_DEFAULTS, key)}


def wire_tools(request: ChatRequest) -> dict[str, Any]:
    """What may be called, and whether it must. Raises `InvalidRequest`."""
    tools = [
        {
            "type": "function",
            "function": {"name": name, "description": t.description, "parameters": t.parameters},
        }
        for name, t in offered(request.tools).items()
    ]
    sent: dict[str, Any] = {"tools": tools}
    choice = request.tool_choice
    if choice in ("none", "required"):
        sent["tool_choice"] = choice
    elif choice != "auto":
        sent["tool_choice"] = {"type": "function", "function": {"name": wire_name(choice)}}
    if not request.parallel_tool_calls:
        sent["parallel_tool_calls"] = False
    return sent


def wire_format(request: ChatRequest) -> dict[str, Any] | None:
    """The form that the answer has to have; None when it is free."""
    if request.json_schema is not None:
        schema = {"name": request.schema_name, "schema": request.json_schema}
        return {"type": "json_schema", "json_schema": schema | {"strict": request.schema_strict}}
    return {"type": "json_object"} if request.json_object else None


def wire_message(message: Message) -> dict[str, Any]:
    """A message, its pictures and its calls."""
    content: Any = message.content
    if message.images:
        content = [{"type": "text", "text": message.content}] if message.content else []
        content += [{"type": "image_url", "image_url": {"url": url}} for url in message.images]
    shown: dict[str, Any] = {"role": message.role, "content": content}
    if message.tool_calls:
        shown["content"] = content or None
        shown["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": wire_name(call.name),
                    "arguments": msgspec.json.encode(call.arguments).decode(),
                },
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        shown["tool_call_id"] = message.tool_call_id
    return shown


# --- the answer ----------------------------------------------------------------------------


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Said(msgspec.Struct):
    content: str | None = None
    tool_calls: list[_Call] | None = None
    reasoning: Any = None
    reasoning_content: Any = None
    refusal: str | None = None


class _Guess(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[_Guess] | None = None


class _Logprobs(msgspec.Struct):
    content: list[_Guess] | None = None


class _Choice(msgspec.Struct):
    delta: _Said | None = None
    message: _Said | None = None
    finish_reason: str | None = None
    stop_reason: Any = None  # vLLM's and its kin's: the text of `stop` that ended it
    logprobs: _Logprobs | None = None


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    cost: float | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class _Stream:
    """Server-sent chunks; neighbouring pieces of one read are handed on as one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._data = ServerSentData()
        self._done = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        return self._events(self._data.feed(data))

    def end(self) -> list[ChatEvent]:
        events = self._events(self._data.end())
        return events if self._done else [*events, *self._answer.finish()]

    def _events(self, found: list[bytes]) -> list[ChatEvent]:
        events: list[ChatEvent] = []
        text: list[str] = []
        for data in found:
            if self._done:
                break
            if data == b"[DONE]":
                self._done = True
                events += _joined(text)
                events += self._answer.finish()
                break
            chunk = _decoded(self._answer, data)
            for choice in chunk.choices or ():
                said = take(self._answer, choice, choice.delta)
                if choice.logprobs and choice.logprobs.content:
                    events += _joined(text)
                    text = []
                    events.append(TextDelta(text=said, logprobs=_likely(choice.logprobs)))
                elif said:
                    text.append(said)
            if chunk.usage:
                count(self._answer, chunk.usage)
        if not self._done:
            events += _joined(text)
            if not events and found:
                events.append(TextDelta(text=""))
        return events


class _Whole:
    """One JSON document."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[ChatEvent]:
        self._parts.append(data)
        return []

    def end(self) -> list[ChatEvent]:
        chunk = _decoded(self._answer, b"".join(self._parts))
        events: list[ChatEvent] = []
        for choice in (chunk.choices or ())[:1]:
            said = take(self._answer, choice, choice.message)
            likely = _likely(choice.logprobs) if choice.logprobs else ()
            if said or likely:
                events.append(TextDelta(text=said, logprobs=likely))
        if chunk.usage:
            count(self._answer, chunk.usage)
        return [*events, *self._answer.finish()]


def _joined(text: list[str]) -> list[ChatEvent]:
    return [TextDelta(text="".join(text))] if text else []


def _decoded(answer: Answer, data: bytes) -> _Chunk:
    try:
        chunk = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        told = answer.refusals.redacted(str(error))
        if answer.begun:
            raise answer.refusals.cut(told) from None
        raise answer.refusals.unreadable(told) from None
    if chunk.error:
        raise in_stream(answer, chunk.error, data)
    return chunk


def in_stream(answer: Answer, error: Any, data: bytes) -> Exception:
    """What an error inside the answer means."""
    code = error.get("code") if isinstance(error, dict) else None
    status = code if isinstance(code, int) and 400 <= code < 600 else 500
    refused = answer.refusals.of_status(status, data)
    return answer.refusals.cut(refused.message.rstrip(".")) if answer.begun else refused


def take(answer: Answer, choice: _Choice, said: _Said | None) -> str:
    """Note what a choice says; return its text."""
    text = ""
    if said is not None:
        text = said.content or said.refusal or ""
        if text:
            answer.begin()
        for call in said.tool_calls or ():
            key = call.index if call.index is not None else call.id or answer.last_call()
            function = call.function or _Function()
            answer.call(
                key,
                id=call.id or "",
                name=function.name or "",
                arguments=function.arguments or "",
            )
    if choice.finish_reason:
        if choice.finish_reason not in _REASONS:
            told = answer.refusals.redacted(choice.finish_reason)
            raise answer.refusals.cut(f"the provider stopped it ({told})")
        answer.reason = _REASONS[choice.finish_reason]
        if choice.stop_reason in answer.request.stop:
            answer.stop_sequence = choice.stop_reason
    return text


def count(answer: Answer, usage: _Usage) -> None:
    """Take the provider's counts."""
    prompt = usage.prompt_tokens_details or _Details()
    completion = usage.completion_tokens_details or _Details()
    answer.usage = Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=prompt.cached_tokens or 0,
        reasoning_tokens=completion.reasoning_tokens or 0,
    )
    answer.cost_usd = usage.cost


def _likely(logprobs: _Logprobs) -> tuple[TokenLikelihood, ...]:
    return tuple(
        TokenLikelihood(
            token=guess.token,
            logprob=guess.logprob,
            bytes=_tuple(guess.bytes),
            top=tuple(
                Likelihood(token=other.token, logprob=other.logprob, bytes=_tuple(other.bytes))
                for other in guess.top_logprobs or ()
            ),
        )
        for guess in logprobs.content or ()
    )


def _tuple(values: list[int] | None) -> tuple[int, ...] | None:
    return None if values is None else tuple(values)
