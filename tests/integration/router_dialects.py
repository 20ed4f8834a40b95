"""A provider on loopback that speaks Ollama, Anthropic or OpenRouter, and breaks as told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from sonia.config import Custom, Local, Ollama, Paid, Providers, Secret
from sonia.types import ToolSpec

WIRE_NAME = "clock_read"
KEY = "sk-canary-1234567890"
TOOL = ToolSpec(
    name="clock.read",
    description="The time in a city.",
    parameters={
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)
Lines = list[str]


class Upstream:
    """A provider on loopback: answers every request with `status` and `lines`, then `fault`."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.status = "200 OK"
        self.kind = "text/event-stream"
        self.headers = ""
        self.lines: Lines = []
        self.fault: str = ""
        self.respond: Callable[[dict[str, Any]], Lines] | None = None
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = next(
            (
                int(line[15:])
                for line in head.splitlines()
                if line.lower()[:15] == "content-length:"
            ),
            0,
        )
        body = json.loads(await reader.readexactly(length) or b"{}")
        if "/api/show " in head or "/models " in head:  # what it knows of its models: nothing
            writer.write(
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            return
        self.requests.append(body)
        self.asked.set()
        if self.fault == "hang":
            await reader.read()
            return
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Type: {self.kind}\r\n{self.headers}"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n".encode()
        )
        for line in self.respond(body) if self.respond else self.lines:
            data = line.encode()
            writer.write(b"%x\r\n%s\r\n" % (len(data), data))
            await writer.drain()
        if self.fault == "stall":
            await reader.read()
            self.gone.set()
        elif self.fault != "cut":
            writer.write(b"0\r\n\r\n")


def _ollama(upstream: Upstream) -> Providers:
    return Providers(local=Local(models=()), ollama=Ollama(base_url=upstream.url))


def _anthropic(upstream: Upstream) -> Providers:
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    return Providers(local=Local(models=()), anthropic=paid)


def _openrouter(upstream: Upstream) -> Providers:
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    return Providers(local=Local(models=()), openrouter=paid)


def _openai(upstream: Upstream) -> Providers:
    paid = Paid(api_key=Secret(KEY), base_url=upstream.url)
    return Providers(local=Local(models=()), openai=paid)


def _custom(upstream: Upstream) -> Providers:
    custom = Custom(api_key=Secret(KEY), base_url=f"{upstream.url}/v1", context_tokens=32_768)
    return Providers(local=Local(models=()), custom={"house": custom})


def _foreign(upstream: Upstream) -> Providers:
    custom = Custom(api_key=Secret(KEY), base_url=upstream.url, dialect="litellm")
    return Providers(local=Local(models=()), custom={"groq": custom})


MODELS = {
    "groq": ("groq/llama-3.3-70b-versatile", _foreign),  # by litellm
    "openai": ("openai/gpt-4o", _openai),
    "house": ("house/qwen3", _custom),
    "ollama": ("ollama/llama3", _ollama),
    "anthropic": ("anthropic/claude-sonnet-4-5", _anthropic),
    "openrouter": ("openrouter/openai/gpt-4o", _openrouter),
}


def _sse(*events: dict[str, Any], done: bool = False) -> Lines:
    lines = [
        (f"event: {event['type']}\n" if "type" in event else "") + f"data: {json.dumps(event)}\n\n"
        for event in events
    ]
    return lines + (["data: [DONE]\n\n"] if done else [])


def _openai_chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> dict[str, Any]:
    return {
        "id": "gen-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "openai/gpt-4o",
        "choices": [{"index": 0, "delta": delta, "finish_reason": reason}],
        **more,
    }


def _anthropic_start() -> list[dict[str, Any]]:
    usage = {"input_tokens": 11, "output_tokens": 1}
    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage}
    return [{"type": "message_start", "message": {**message, "model": "claude-sonnet-4-5"}}]


def _anthropic_end(reason: str) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": reason, "stop_sequence": None},
            "usage": {"output_tokens": 5},
        },
        {"type": "message_stop"},
    ]


def text_lines(
    dialect: str, words: Sequence[str] = ("Hello", " there"), *, whole: bool = True
) -> Lines:
    """The words in the dialect; not `whole`: without the reason and the end."""
    if dialect == "ollama":
        rows = [_ollama_row({"role": "assistant", "content": word}) for word in words]
        end = _ollama_row({"role": "assistant", "content": ""}, done=True)
        return [json.dumps(row) + "\n" for row in (*rows, *([end] if whole else []))]
    if dialect == "anthropic":
        block = {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        }
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
            for word in words
        ]
        end_events = _anthropic_end("end_turn") if whole else []
        return _sse(*_anthropic_start(), block, *deltas, *end_events)
    chunks = [_openai_chunk({"role": "assistant", "content": word}) for word in words]
    usage = {"prompt_tokens": 11, "completion_tokens": 5, "total_tokens": 16}
    if whole:
        chunks += [_openai_chunk({}, "stop", usage=usage)]
    return _sse(*chunks, done=whole)


def _ollama_row(message: dict[str, Any], *, done: bool = False) -> dict[str, Any]:
    row = {"model": "llama3", "created_at": "2026-01-01T00:00:00Z", "message": message}
    if not done:
        return {**row, "done": False}
    counts = {"prompt_eval_count": 11, "eval_count": 5, "total_duration": 1}
    return {**row, "done": True, "done_reason": "stop", **counts}


def call_lines(dialect: str, arguments: str) -> Lines:
    """A call of clock.read; `arguments` is sent in pieces where the dialect has pieces."""
    half = len(arguments) // 2
    if dialect == "ollama":
        function = {"name": WIRE_NAME, "arguments": json.loads(arguments)}
        message = {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}
        end = _ollama_row({"role": "assistant", "content": ""}, done=True)
        return [json.dumps(_ollama_row(message)) + "\n", json.dumps(end) + "\n"]
    if dialect == "anthropic":
        start = {"type": "tool_use", "id": "toolu_1", "name": WIRE_NAME, "input": {}}
        block = {"type": "content_block_start", "index": 0, "content_block": start}
        deltas = [
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": part},
            }
            for part in (arguments[:half], arguments[half:])
        ]
        return _sse(*_anthropic_start(), block, *deltas, *_anthropic_end("tool_use"))
    named = {"index": 0, "id": "call_1", "type": "function"}
    first = {**named, "function": {"name": WIRE_NAME, "arguments": arguments[:half]}}
    rest = {"index": 0, "function": {"arguments": arguments[half:]}}
    chunks = [_openai_chunk({"role": "assistant", "tool_calls": [first]})]
    chunks += [_openai_chunk({"tool_calls": [rest]}), _openai_chunk({}, "tool_calls")]
    return _sse(*chunks, done=True)


def json_lines(dialect: str, document: str) -> Lines:
    """The document in pieces; Anthropic's is what its tool for that is called with."""
    if dialect != "anthropic":
        return text_lines(dialect, [document[:4], document[4:]])
    return [line.replace(WIRE_NAME, "json_answer") for line in call_lines(dialect, document)]
