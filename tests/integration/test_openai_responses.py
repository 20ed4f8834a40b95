"""OpenAI's own client on `/v1/responses`, against the real routes and a real database."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import pytest_asyncio
from pydantic import BaseModel

from sonia.app import MIGRATIONS
from sonia.db import Database, open_database
from sonia.forgetting import Scope, erase
from sonia.gateway import PLACES, Responses
from sonia.gateway.answering import Answers
from sonia.gateway.openai import openai_routes, responses_routes
from sonia.router import AnswerCut
from sonia.turn import MemoryUse, Provenance, Reply, ResponseDelta, TurnDone, TurnRequest
from sonia.types import Message, ToolCall, Usage
from tests.scripted import MODEL, ScriptedRouter, Step
from tests.serving import serving

CALL = ToolCall(id="call_1", name="clock_read", arguments={"city": "Lisbon"})
CLOCK: list[Any] = [
    {
        "type": "function",
        "name": "clock_read",
        "description": "The time in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        "strict": False,
    }
]
TEXT_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.content_part.added",
    "response.output_text.delta",
    "response.output_text.delta",
    "response.output_text.done",
    "response.content_part.done",
    "response.output_item.done",
    "response.completed",
]
CALL_EVENTS = [
    "response.created",
    "response.in_progress",
    "response.output_item.added",
    "response.function_call_arguments.delta",
    "response.function_call_arguments.done",
    "response.output_item.done",
    "response.completed",
]


class SpokenTurns:
    """An assistant that says one thing, and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[TurnRequest] = []

    @asynccontextmanager
    async def turn(self, request: TurnRequest) -> AsyncIterator[AsyncIterator[Any]]:
        self.requests.append(request)
        yield self._play()

    async def _play(self) -> AsyncIterator[Any]:
        yield ResponseDelta(turn_id="turn_1", text="At your service.")
        reply = Reply(
            response="At your service.",
            session_id="ses_1",
            turn_id="turn_1",
            model=MODEL,
            provider="local",
            usage=Usage(prompt_tokens=7, completion_tokens=3),
            cost_usd=0.0,
            memory=MemoryUse(),
            tool_calls=(),
            provenance=Provenance(),
        )
        yield TurnDone(turn_id="turn_1", data=reply)


class Rig:
    """A gateway in front of a scripted router, with a database, and a client of it."""

    def __init__(self, router: ScriptedRouter, turns: SpokenTurns, url: str) -> None:
        self.router = router
        self.turns = turns
        self.url = url
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest_asyncio.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as opened:
        yield opened


@pytest.fixture
def rig(db: Database) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(*scripts: Sequence[Step]) -> AsyncIterator[Rig]:
        router, turns = ScriptedRouter(*scripts), SpokenTurns()
        answers = Answers(router, turns, ("chat_low_latency",), None)
        handlers = [*openai_routes(answers), *responses_routes(answers, Responses(db))]
        async with serving(handlers) as url:
            made = Rig(router, turns, url)
            async with made.client:
                yield made

    return opened


async def test_a_text_is_answered_and_can_be_fetched_again(rig: Any) -> None:
    async with rig(["Hello", " there"]) as it:
        answer = await it.client.responses.create(
            model=MODEL, input="Hello", instructions="Be kind.", metadata={"a": "b"}
        )
        again = await it.client.responses.retrieve(answer.id)
        items = await it.client.responses.input_items.list(answer.id)

    assert answer.output_text == "Hello there"
    assert (answer.status, answer.model, answer.metadata) == ("completed", MODEL, {"a": "b"})
    assert answer.usage
    assert (answer.usage.input_tokens, answer.usage.total_tokens) == (10, 12)
    assert again == answer
    assert [item.type for item in items.data] == ["message"]
    roles = [(message.role, message.content) for message in it.router.requests[0].messages]
    assert roles == [("system", "Be kind."), ("user", "Hello")]


async def test_the_events_of_a_text_come_in_their_order(rig: Any) -> None:
    async with rig(["Hel", "lo"]) as it:
        stream = await it.client.responses.create(model=MODEL, input="Hello", stream=True)
        events = [event async for event in stream]

    assert [event.type for event in events] == TEXT_EVENTS
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].response.output_text == "Hello"
    assert len({event.item_id for event in events if hasattr(event, "item_id")}) == 1


async def test_the_events_of_a_call_come_in_their_order(rig: Any) -> None:
    async with rig([CALL]) as it:
        stream = await it.client.responses.create(
            model=MODEL, input="The time?", tools=CLOCK, stream=True
        )
        events = [event async for event in stream]

    assert [event.type for event in events] == CALL_EVENTS
    (item,) = events[-1].response.output
    assert (item.call_id, item.name) == ("call_1", "clock_read")
    assert json.loads(item.arguments) == {"city": "Lisbon"}


async def test_a_call_is_answered_and_the_conversation_goes_on(rig: Any) -> None:
    async with rig([CALL], ["It is noon."]) as it:
        called = await it.client.responses.create(model=MODEL, input="The time?", tools=CLOCK)
        told = await it.client.responses.create(
            model=MODEL,
            previous_response_id=called.id,
            input=[{"type": "function_call_output", "call_id": "call_1", "output": "12:00"}],
            tools=CLOCK,
        )

    assert told.output_text == "It is noon."
    assert it.router.requests[1].messages == (
        Message(role="user", content="The time?"),
        Message(role="assistant", content="", tool_calls=(CALL,)),
        Message(role="tool", content="12:00", tool_call_id="call_1"),
    )


async def test_items_are_the_conversation(rig: Any) -> None:
    given: list[Any] = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "input_text", "text": "The time?"}]},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "function_call", "call_id": "a", "name": "x", "arguments": "{}"},
        {"type": "function_call", "call_id": "b", "name": "y", "arguments": '{"z": 1}'},
        {"type": "function_call_output", "call_id": "a", "output": "1"},
        {"type": "function_call_output", "call_id": "b", "output": "2"},
    ]
    async with rig(["Noon."]) as it:
        await it.client.responses.create(model=MODEL, input=given, store=False)

    messages = it.router.requests[0].messages
    assert [message.role for message in messages] == ["system", "user", "assistant", "tool", "tool"]
    assert [call.id for call in messages[2].tool_calls] == ["a", "b"]


class Place(BaseModel):
    """What `parse` is to make."""

    city: str


async def test_a_pydantic_model_is_parsed_from_the_answer(rig: Any) -> None:
    async with rig(['{"city": "Paris"}']) as it:
        answer = await it.client.responses.parse(model=MODEL, input="Where?", text_format=Place)

    assert answer.output_parsed == Place(city="Paris")
    assert it.router.requests[0].json_schema["required"] == ["city"]


async def test_what_is_deleted_or_was_not_stored_is_not_found(rig: Any) -> None:
    async with rig(["a"], ["b"]) as it:
        kept = await it.client.responses.create(model=MODEL, input="x")
        loose = await it.client.responses.create(model=MODEL, input="x", store=False)
        await it.client.responses.delete(kept.id)
        for missing in (kept.id, loose.id, "resp_nothing"):
            with pytest.raises(openai.NotFoundError):
                await it.client.responses.retrieve(missing)
        with pytest.raises(openai.NotFoundError):
            await it.client.responses.create(model=MODEL, input="x", previous_response_id=kept.id)


async def test_a_response_that_breaks_ends_as_failed_and_is_not_stored(rig: Any) -> None:
    async with rig(["Hel", AnswerCut("It broke.")]) as it:
        stream = await it.client.responses.create(model=MODEL, input="Hello", stream=True)
        events = [event async for event in stream]
        with pytest.raises(openai.NotFoundError):
            await it.client.responses.retrieve(events[0].response.id)

    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message == "It broke."
    assert events[-1].response.output_text == "Hel"


PICTURE = {"role": "user", "content": [{"type": "input_image", "file_id": "file_1"}]}
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"input": 3}, "input"),
    ({"input": ""}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"type": "computer_call"}]}, "input[0].type"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].type",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "a", "name": "x", "arguments": "no"}]},
        "input[0].arguments",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
    ({"background": True}, "background"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema"),
]


@pytest.mark.parametrize(("change", "param"), WRONG)
async def test_what_is_wrong_is_named(rig: Any, change: dict[str, Any], param: str) -> None:
    async with rig(["never"]) as it, httpx.AsyncClient() as client:
        body = {"model": MODEL, "input": "x", **change}
        answer = await client.post(f"{it.url}/v1/responses", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_assistant_answers_and_knows_what_was_said_before(rig: Any) -> None:
    async with rig() as it:
        first = await it.client.responses.create(model="sonia", input="Hello")
        await it.client.responses.create(
            model="sonia", input="And now?", previous_response_id=first.id
        )
        chat = await it.client.chat.completions.create(
            model="sonia",
            messages=[
                {"role": "user", "content": "Hello"},
                {"role": "assistant", "content": "At your service."},
                {"role": "user", "content": "And now?"},
            ],
        )

    one, two, three = it.turns.requests
    assert (first.output_text, first.model) == ("At your service.", "sonia")
    assert (two.text, two.history) == (three.text, three.history)
    assert [message.role for message in two.history or ()] == ["user", "assistant"]
    assert one.session_id == two.session_id == three.session_id
    assert chat.usage.total_tokens == 10


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"n": 2}, "n"),
        ({"metadata": {"session_id": "a b"}}, "metadata.session_id"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "messages"),
    ],
)
async def test_what_the_assistant_does_not_do_is_refused(
    rig: Any, change: dict[str, Any], param: str
) -> None:
    async with rig() as it, httpx.AsyncClient() as client:
        body = {"model": "sonia", "messages": [{"role": "user", "content": "x"}], **change}
        answer = await client.post(f"{it.url}/v1/chat/completions", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_forgetting_reaches_what_was_stored(rig: Any, db: Database) -> None:
    async with rig(["a"], ["b"], ["c"]) as it:
        create = it.client.responses.create
        anns = await create(model=MODEL, input="x", user="ann")
        words = await create(model=MODEL, input="My cat Tibbles is ill.", user="bob")
        other = await create(model=MODEL, input="y", user="bob")

        def forget(c: Any) -> dict[str, int]:
            scope = Scope(receipt="r", users={"ann", "bob"}, persons={"ann"})
            scope.phrases.add("tibbles")
            return erase(c, scope, PLACES).counts

        counts = await db.write(forget)
        left = await it.client.responses.retrieve(other.id)
        for gone in (anns.id, words.id):
            with pytest.raises(openai.NotFoundError):
                await it.client.responses.retrieve(gone)

    assert counts == {"responses": 2}
    assert left.id == other.id
