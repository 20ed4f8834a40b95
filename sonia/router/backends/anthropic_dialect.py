"""Anthropic's messages.

A JSON schema is a tool that must be called: every Claude model can do that, and what it is
called with is the document.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sonia.errors import InvalidRequest
from sonia.router.backends.answers import Answer, offered, wire_name
from sonia.router.backends.dialect import Reader
from sonia.router.backends.lines import ServerSentData
from sonia.router.interface import ChatEvent, ChatRequest, FinishReason, TextDelta
from sonia.types import Message, Usage

VERSION = "2023-06-01"
ANSWER = "json_answer"
_DATA_URL = re.compile(r"^data:(image/[a-z+.-]+);base64,(.+)$", re.DOTALL)
_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


class AnthropicDialect:
    """`POST /v1/messages`."""

    prefills = False

    def path(self, base_url: str) -> str:
        base = base_url.rstrip("/")
        return f"{base}/messages" if base.endswith("/v1") else f"{base}/v1/messages"

    def headers(self, api_key: str) -> dict[str, str]:
        return {"x-api-key": api_key, "anthropic-version": VERSION}

    def body(self, model: str, request: ChatRequest) -> bytes:
        if request.top_logprobs is not None:
            raise InvalidRequest("Anthropic tells no logprobs. Leave it out.", field="logprobs")
        if request.frequency_penalty or request.presence_penalty:
            raise InvalidRequest("Anthropic has no penalties.", field="frequency_penalty")
        system = "\n\n".join(m.content for m in request.messages if m.role == "system")
        sent: dict[str, Any] = {
            "model": model,
            "max_tokens": request.max_tokens,
            "messages": _turns(request.messages),
        }
        if not request.whole:
            sent["stream"] = True
        if system:
            sent["system"] = system
        if request.top_p != 1.0:  # newer models take one of the two
            sent["top_p"] = request.top_p
        else:
            sent["temperature"] = min(request.temperature, 1.0)
        if request.stop:
            sent["stop_sequences"] = request.stop
        return msgspec.json.encode(sent | _tools(request))

    def reader(self, answer: Answer) -> Reader:
        return _Whole(answer) if answer.request.whole else _Stream(answer)


def _as_json(request: ChatRequest) -> bool:
    return request.json_schema is not None or request.json_object


def _tools(request: ChatRequest) -> dict[str, Any]:
    if _as_json(request) and (not request.tools or request.tool_choice == "none"):
        return {"tools": [_document(request)], "tool_choice": {"type": "tool", "name": ANSWER}}
    if not request.tools:
        return {}
    tools = [
        {"name": name, "description": tool.description, "input_schema": tool.parameters}
        for name, tool in offered(request.tools).items()
    ]
    if _as_json(request) and request.tool_choice == "auto":  # one of yours, or the document
        one_of = {"type": "any", "disable_parallel_tool_use": True}
        return {"tools": [*tools, _document(request)], "tool_choice": one_of}
    kinds = {"auto": "auto", "none": "none", "required": "any"}
    kind = kinds.get(request.tool_choice, "tool")
    choice: dict[str, Any] = {"type": kind}
    if kind == "tool":
        choice["name"] = wire_name(request.tool_choice)
    if not request.parallel_tool_calls and kind != "none":
        choice["disable_parallel_tool_use"] = True
    return (
        {"tools": tools} if choice == {"type": "auto"} else {"tools": tools, "tool_choice": choice}
    )


def _document(request: ChatRequest) -> dict[str, Any]:
    """The tool whose arguments are the answer. Raises `InvalidRequest` when its name is taken."""
    if ANSWER in offered(request.tools):
        raise InvalidRequest(f"Call your tool {ANSWER!r} otherwise: the name is taken here.")
    schema = request.json_schema or {"type": "object"}
    return {"name": ANSWER, "description": "Give the answer.", "input_schema": schema}


def _turns(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """Neighbours of one role are one turn, a tool's result is said by the user."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "system":
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id or ""}
        return [{**result, "content": message.content}]
    blocks: list[dict[str, Any]] = []
    if message.content.strip():
        blocks.append({"type": "text", "text": message.content})
    blocks += [{"type": "image", "source": _source(url)} for url in message.images]
    blocks += [
        {"type": "tool_use", "id": call.id, "name": wire_name(call.name), "input": call.arguments}
        for call in message.tool_calls
    ]
    return blocks


def _source(url: str) -> dict[str, str]:
    if found := _DATA_URL.match(url):
        return {"type": "base64", "media_type": found[1], "data": found[2]}
    return {"type": "url", "url": url}


# --- the answer ----------------------------------------------------------------------------


class _Counts(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None


class _Block(msgspec.Struct):
    type: str
    id: str = ""
    name: str = ""
    text: str = ""
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct):
    content: list[_Block] = []
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Counts | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Message | str | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Counts | None = None
    error: _Error | None = None


class _Reply(_Message):
    type: str = ""
    error: _Error | None = None


_event = msgspec.json.Decoder(_Event)
_reply = msgspec.json.Decoder(_Reply)


class _Taking:
    """What stream and whole answers share."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._as_json = _as_json(answer.request)
        self._document: int | None = None  # the block that is the answer in JSON
        self._counts = _Counts()

    def decoded(self, decoder: Any, data: bytes) -> Any:
        refusals = self.answer.refusals
        try:
            value = decoder.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            told = refusals.redacted(str(error))
            failure = refusals.cut(told) if self.answer.begun else refusals.unreadable(told)
            raise failure from None
        if value.error:
            refused = refusals.of_status(_STATUS.get(value.error.type, 500), data)
            raise refusals.cut(refused.message.rstrip(".")) if self.answer.begun else refused
        return value

    def count(self, counts: _Counts | None) -> None:
        """Later counts are totals, and may leave out what stays the same."""
        if counts is None:
            return
        for name in counts.__struct_fields__:
            if (value := getattr(counts, name)) is not None:
                setattr(self._counts, name, value)
        read = self._counts.cache_read_input_tokens or 0
        written = self._counts.cache_creation_input_tokens or 0
        self.answer.usage = Usage(
            prompt_tokens=(self._counts.input_tokens or 0) + read + written,
            completion_tokens=self._counts.output_tokens or 0,
            cached_tokens=read,
            cache_write_tokens=written,
        )

    def stopped(self, reason: str | None, stop_sequence: str | None) -> None:
        if reason is None:
            return
        self.answer.stop_sequence = stop_sequence
        if reason not in _REASONS:
            told = self.answer.refusals.redacted(reason)
            raise self.answer.refusals.cut(f"the provider stopped it ({told})")
        given = _REASONS[reason]
        self.answer.reason = "stop" if self._as_json and given == "tool_calls" else given

    def block(self, index: int, block: _Block) -> str:
        """Take a block's beginning, or all of it; return its text."""
        if block.type == "text" and block.text and not self._as_json:
            self.answer.begin()
            return block.text
        if block.type == "tool_use":
            whole = bytes(block.input)
            if self._as_json and block.name == ANSWER:
                self._document = index
                return whole.decode() if whole != b"{}" else ""
            arguments = whole.decode() if whole.strip() not in (b"{}", b"") else ""
            self.answer.call(index, id=block.id, name=block.name, arguments=arguments)
        return ""


class _Stream(_Taking):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._data = ServerSentData()
        self._done = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        return self._events(self._data.feed(data))

    def end(self) -> list[ChatEvent]:
        events = self._events(self._data.end())
        if not self._done:
            raise self.answer.refusals.cut("it ended without saying why")
        return events

    def _events(self, found: list[bytes]) -> list[ChatEvent]:
        text: list[str] = []
        for data in found:
            if said := self._take(self.decoded(_event, data)):
                text.append(said)
            if self._done:
                break
        events: list[ChatEvent] = [TextDelta(text="".join(text))] if text or found else []
        return [*events, *self.answer.finish()] if self._done else events

    def _take(self, event: _Event) -> str:
        match event.type:
            case "message_start" if isinstance(event.message, _Message):
                self.count(event.message.usage)
            case "content_block_start" if event.content_block:
                return self.block(event.index, event.content_block)
            case "content_block_delta" if event.delta:
                return self._delta(event.index, event.delta)
            case "message_delta":
                self.count(event.usage)
                if event.delta:
                    self.stopped(event.delta.stop_reason, event.delta.stop_sequence)
            case "message_stop":
                self._done = True
        return ""

    def _delta(self, index: int, delta: _Delta) -> str:
        if delta.type == "text_delta" and not self._as_json:
            self.answer.begin()
            return delta.text
        if delta.type == "input_json_delta":
            if index == self._document:
                self.answer.begin()
                return delta.partial_json
            self.answer.call(index, arguments=delta.partial_json)
        return ""


class _Whole(_Taking):
    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._parts: list[bytes] = []

    def feed(self, data: bytes) -> list[ChatEvent]:
        self._parts.append(data)
        return []

    def end(self) -> list[ChatEvent]:
        reply: _Reply = self.decoded(_reply, b"".join(self._parts))
        text = "".join(self.block(index, block) for index, block in enumerate(reply.content))
        self.count(reply.usage)
        self.stopped(reply.stop_reason, reply.stop_sequence)
        events: list[ChatEvent] = [TextDelta(text=text)] if text else []
        return [*events, *self.answer.finish()]
