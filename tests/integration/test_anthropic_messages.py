"""Anthropic's own client, unmodified, against the real routes on a real port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anthropic
import httpx
import pytest

from sonia.errors import RateLimited, Unavailable
from sonia.gateway.answering import Answers
from sonia.gateway.anthropic import anthropic_routes
from sonia.gateway.openai import openai_routes
from sonia.router import AnswerCut, Finished
from sonia.turn import TurnRequest
from sonia.types import Message, ToolCall, Usage
from tests.scripted import MODEL, ScriptedRouter, Step
from tests.serving import serving

ASKS: list[Any] = [{"role": "user", "content": "Hello"}]
CLOCK: list[Any] = [
    {
        "name": "clock_read",
        "description": "The time in a city.",
        "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
    }
]
CALL = ToolCall(id="toolu_1", name="clock_read", arguments={"city": "Lisbon"})


class NoTurns:
    """The assistant is not asked here."""

    def turn(self, request: TurnRequest) -> Any:
        raise AssertionError("nobody asked for sonia")


class Rig:
    """A gateway in front of a scripted router, and a client of it."""

    def __init__(self, router: ScriptedRouter, url: str) -> None:
        self.router = router
        self.url = url
        self.client = anthropic.AsyncAnthropic(base_url=url, api_key="none", max_retries=0)


@asynccontextmanager
async def rig(*scripts: Sequence[Step]) -> AsyncIterator[Rig]:
    router = ScriptedRouter(*scripts)
    answers = Answers(router, NoTurns(), ("chat_low_latency",), None)
    async with serving([*anthropic_routes(answers), *openai_routes(answers)]) as url:
        made = Rig(router, url)
        async with made.client:
            yield made


async def test_a_question_is_answered() -> None:
    async with rig(["Hello", " there"]) as it:
        answer = await it.client.messages.create(
            model=MODEL,
            max_tokens=9,
            messages=ASKS,
            system=[{"type": "text", "text": "Be kind."}],
            stop_sequences=["END"],
            extra_body={"temperature": 0.5},
        )

    assert [(block.type, block.text) for block in answer.content] == [("text", "Hello there")]  # type: ignore[union-attr]
    assert (answer.stop_reason, answer.model, answer.role) == ("end_turn", MODEL, "assistant")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 2)
    assert answer._request_id
    request = it.router.requests[0]
    assert request.messages[0] == Message(role="system", content="Be kind.")
    assert (request.max_tokens, request.stop, request.temperature) == (9, ("END",), 0.5)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stop_sequence_that_ended_the_answer_is_told(stream: bool) -> None:
    end = Finished(
        model=MODEL,
        provider="local",
        reason="stop",
        usage=Usage(),
        first_token_ms=1.0,
        stop_sequence="END",
    )
    async with rig(["one, ", end]) as it:
        asked: Any = {"max_tokens": 9, "messages": ASKS, "stop_sequences": ["END"]}
        if stream:
            async with it.client.messages.stream(model=MODEL, **asked) as events:
                answer = await events.get_final_message()
        else:
            answer = await it.client.messages.create(model=MODEL, **asked)

    assert (answer.stop_reason, answer.stop_sequence) == ("stop_sequence", "END")


async def test_the_events_of_a_stream_come_in_their_order() -> None:
    async with rig(["Hel", "lo"]) as it:
        raw = await it.client.messages.create(model=MODEL, max_tokens=9, messages=ASKS, stream=True)
        kinds = [event.type async for event in raw]

    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]


async def test_the_streaming_helper_puts_text_and_calls_together() -> None:
    async with (
        rig(["Let me look.", CALL]) as it,
        it.client.messages.stream(model=MODEL, max_tokens=9, messages=ASKS, tools=CLOCK) as stream,
    ):
        answer = await stream.get_final_message()

    text, call = answer.content
    assert text.type == "text"
    assert text.text == "Let me look."
    assert call.type == "tool_use"
    assert (call.id, call.name, call.input) == ("toolu_1", "clock_read", {"city": "Lisbon"})
    assert answer.stop_reason == "tool_use"
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10, 2)


async def test_a_tools_result_goes_back_to_the_model() -> None:
    messages: list[Any] = [
        *ASKS,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "x"},
                {"type": "text", "text": "Let me look."},
                {
                    "type": "tool_use",
                    "id": "toolu_1",
                    "name": "clock_read",
                    "input": {"city": "Lisbon"},
                },
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "noon"}],
                },
                {"type": "text", "text": "Well?"},
            ],
        },
    ]
    async with rig([CALL]) as it:
        answer = await it.client.messages.create(
            model=MODEL,
            max_tokens=9,
            messages=messages,
            tools=CLOCK,
            tool_choice={"type": "any"},
        )

    request = it.router.requests[0]
    assert request.tool_choice == "required"
    assert request.messages[1:] == (
        Message(role="assistant", content="Let me look.", tool_calls=(CALL,)),
        Message(role="tool", content="noon", tool_call_id="toolu_1"),
        Message(role="user", content="Well?"),
    )
    assert answer.content[0].type == "tool_use"


async def test_tokens_are_counted_and_models_listed() -> None:
    async with rig() as it:
        count = await it.client.messages.count_tokens(model=MODEL, messages=ASKS, tools=CLOCK)
        models = [model.id async for model in it.client.models.list()]
        one = await it.client.models.retrieve(MODEL)

    assert count.input_tokens > 5
    assert MODEL in models
    assert one.display_name == MODEL


async def test_errors_are_the_clients_own_classes() -> None:
    busy, loading = RateLimited("Too many.", retry_after_s=7), Unavailable("Loading.")
    async with rig([busy], [loading], ["Hi", AnswerCut("It broke.")]) as it:
        ask: Any = {"max_tokens": 9, "messages": ASKS}
        with pytest.raises(anthropic.NotFoundError) as missing:
            await it.client.messages.create(model="claude-nothing", **ask)
        with pytest.raises(anthropic.RateLimitError) as limited:
            await it.client.messages.create(model=MODEL, **ask)
        with pytest.raises(anthropic.InternalServerError) as overloaded:
            await it.client.messages.create(model=MODEL, **ask)
        with pytest.raises(anthropic.APIStatusError, match="It broke"):
            async with it.client.messages.stream(model=MODEL, **ask) as stream:
                await stream.get_final_message()

    assert missing.value.body["error"]["type"] == "not_found_error"  # type: ignore[index]
    assert limited.value.response.headers["retry-after"] == "7"
    assert overloaded.value.status_code == 529


PICTURE: dict[str, Any] = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "aGk="},
}


async def test_a_picture_reaches_the_router() -> None:
    async with rig(["A cat."]) as it:
        await it.client.messages.create(
            model=MODEL,
            max_tokens=9,
            messages=[{"role": "user", "content": [PICTURE]}],  # type: ignore[list-item]
        )

    assert it.router.requests[0].messages[0].images == ("data:image/png;base64,aGk=",)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"temperature": 2}, "temperature"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "content[0].source"),
    (
        {"messages": [{"role": "user", "content": [PICTURE | {"source": {"type": "file"}}]}]},
        "messages[0].content[0].source",
    ),
    ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "tools[0]"),
    ({"tool_choice": {"type": "tool", "name": "x"}}, "tool_choice.name"),
]


@pytest.mark.parametrize(("change", "where"), WRONG)
async def test_what_is_wrong_is_named(change: dict[str, Any], where: str) -> None:
    body = {"model": MODEL, "messages": ASKS, "max_tokens": 9, **change}
    async with rig() as it, httpx.AsyncClient() as client:
        answer = await client.post(f"{it.url}/v1/messages", json=body)
        elsewhere = await client.get(f"{it.url}/v1/messages/batches")

    told = answer.json()
    assert (answer.status_code, told["type"]) == (400, "error")
    assert told["error"]["type"] == "invalid_request_error"
    assert where in told["error"]["message"]
    assert answer.headers["request-id"] == told["request_id"]
    assert elsewhere.json()["error"]["type"] == "not_found_error"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels_the_call(stream: bool) -> None:
    async with rig(["Hi", asyncio.Event()]) as it:
        body = {"model": MODEL, "messages": ASKS, "max_tokens": 9, "stream": stream}
        async with httpx.AsyncClient() as client:
            asking = asyncio.create_task(client.post(f"{it.url}/v1/messages", json=body))
            await it.router.asked.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            await it.router.left.wait()
