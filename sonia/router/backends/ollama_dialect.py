"""Ollama's own chat format.

It has one in OpenAI's format too, which can't be told how much context to keep: a long prompt
silently loses its beginning there. Here `num_ctx` says it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from sonia.errors import InvalidRequest
from sonia.router.backends.answers import Answer, offered, wire_name
from sonia.router.backends.base import estimated_tokens
from sonia.router.backends.dialect import Reader
from sonia.router.backends.lines import Lines
from sonia.router.interface import ChatEvent, ChatRequest, FinishReason, TextDelta
from sonia.types import Message, Usage

CONTEXT_STEP = 4096  # a model is loaded anew whenever this changes
_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}


class OllamaDialect:
    """`POST /api/chat`, a JSON document a line."""

    prefills = True

    def path(self, base_url: str) -> str:
        return f"{base_url.rstrip('/').removesuffix('/v1')}/api/chat"

    def headers(self, api_key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {api_key}"} if api_key else {}

    def body(self, model: str, request: ChatRequest) -> bytes:
        if request.top_logprobs is not None:
            raise InvalidRequest("Ollama tells no logprobs here. Leave it out.", field="logprobs")
        sent: dict[str, Any] = {
            "model": model,
            "messages": [_message(message) for message in request.messages],
            "stream": not request.whole,
            "options": _options(request),
        }
        format = "json" if request.json_object else request.json_schema
        tools = _tools(request)
        if format is not None and tools:  # held to the form it can't call
            raise InvalidRequest(
                "Ollama answers in a form or may call tools, not both. Leave one out, or ask "
                "another model.",
                field="response_format",
            )
        if format is not None:
            sent["format"] = request.json_schema or format
        if tools:
            sent["tools"] = tools
        return msgspec.json.encode(sent)

    def reader(self, answer: Answer) -> Reader:
        return _Rows(answer)


def _options(request: ChatRequest) -> dict[str, Any]:
    needed = estimated_tokens(request.messages) + request.max_tokens
    options: dict[str, Any] = {
        "temperature": request.temperature,
        "num_predict": request.max_tokens,
        "num_ctx": -(-needed // CONTEXT_STEP) * CONTEXT_STEP,
    }
    chosen = {
        "top_p": (request.top_p, 1.0),
        "seed": (request.seed, None),
        "stop": (request.stop, ()),
        "frequency_penalty": (request.frequency_penalty, 0.0),
        "presence_penalty": (request.presence_penalty, 0.0),
    }
    return options | {name: value for name, (value, usual) in chosen.items() if value != usual}


def _tools(request: ChatRequest) -> list[dict[str, Any]]:
    if not request.tools or request.tool_choice == "none":
        return []
    if request.tool_choice != "auto":  # its protocol has no word for it
        raise InvalidRequest(
            f"Ollama can't be made to call a tool, so tool_choice {request.tool_choice!r} is not "
            "possible there. Use auto or none, or another model.",
            field="tool_choice",
        )
    return [
        {
            "type": "function",
            "function": {"name": name, "description": t.description, "parameters": t.parameters},
        }
        for name, t in offered(request.tools).items()
    ]


def _message(message: Message) -> dict[str, Any]:
    shown: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.images:
        shown["images"] = [_picture(url) for url in message.images]
    if message.tool_calls:
        shown["tool_calls"] = [
            {"function": {"name": wire_name(call.name), "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    return shown


def _picture(url: str) -> str:
    head, comma, data = url.partition(";base64,")
    if not comma or not head.startswith("data:"):
        raise InvalidRequest("Ollama takes pictures as data URLs only.", field="images")
    return data


class _Function(msgspec.Struct):
    name: str = ""
    arguments: msgspec.Raw = msgspec.Raw(b"{}")


class _Call(msgspec.Struct):
    function: _Function


class _Said(msgspec.Struct):
    content: str = ""
    tool_calls: list[_Call] | None = None


class _Row(msgspec.Struct):
    message: _Said | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0
    error: str | None = None


_decoder = msgspec.json.Decoder(_Row)


class _Rows:
    """A stream of rows, or one."""

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._lines = Lines()
        self._calls = 0
        self._done = False

    def feed(self, data: bytes) -> list[ChatEvent]:
        return self._events(self._lines.feed(data))

    def end(self) -> list[ChatEvent]:
        events = self._events(self._lines.end())
        if not self._done:
            raise self._answer.refusals.cut("it ended without saying why")
        return events

    def _events(self, lines: list[bytes]) -> list[ChatEvent]:
        text: list[str] = []
        for line in lines:
            if line.strip() and not self._done:
                text.append(self._take(self._decoded(line)))
        said = "".join(text)
        events: list[ChatEvent] = (
            [TextDelta(text=said)] if said or (text and not self._done) else []
        )
        if text and self._done:
            events += self._answer.finish()
        return events

    def _take(self, row: _Row) -> str:
        answer, said = self._answer, ""
        if row.message:
            said = row.message.content
            if said:
                answer.begin()
            for call in row.message.tool_calls or ():
                arguments = bytes(call.function.arguments).decode()
                answer.call(self._calls, name=call.function.name, arguments=arguments)
                self._calls += 1
        if row.done:
            self._done = True
            reason = row.done_reason or "stop"
            if reason not in _REASONS:
                raise answer.refusals.cut(f"it stopped with {answer.refusals.redacted(reason)}")
            answer.reason = _REASONS[reason]
            answer.usage = Usage(
                prompt_tokens=row.prompt_eval_count, completion_tokens=row.eval_count
            )
        return said

    def _decoded(self, line: bytes) -> _Row:
        refusals = self._answer.refusals
        try:
            row = _decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            told = refusals.redacted(str(error))
            failure = refusals.cut(told) if self._answer.begun else refusals.unreadable(told)
            raise failure from None
        if row.error is not None:
            refused = refusals.of_status(500, line)
            raise refusals.cut(refused.message) if self._answer.begun else refused
        return row
