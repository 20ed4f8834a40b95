"""OpenAI's own client, unmodified, against the real routes on a real port."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from pydantic import BaseModel

from sonia.config import ApiGateway
from sonia.errors import RateLimited, Unavailable
from sonia.events import Bus, Forgotten
from sonia.gateway.answering import Answers, open_answers
from sonia.gateway.cache import AnswerCache, BoundedStore
from sonia.gateway.openai import completions, openai_routes
from sonia.router import AnswerCut, Likelihood, TextDelta, TokenLikelihood
from sonia.turn import TurnRequest
from sonia.types import ToolCall
from tests.scripted import EMBEDDER, MODEL, ScriptedRouter, Step
from tests.serving import serving

ASKS: list[Any] = [{"role": "user", "content": "Hello"}]
CLOCK: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": "clock_read",
            "description": "The time in a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            "strict": True,
        },
    }
]
CALL = ToolCall(id="call_1", name="clock_read", arguments={"city": "Lisbon"})


class NoTurns:
    """The assistant is not asked here."""

    def turn(self, request: TurnRequest) -> Any:
        raise AssertionError("nobody asked for sonia")


class Rig:
    """A gateway in front of a scripted router, and a client of it."""

    def __init__(self, router: ScriptedRouter, url: str) -> None:
        self.router = router
        self.url = url
        self.client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@asynccontextmanager
async def rig(*scripts: Sequence[Step], cached: bool = False) -> AsyncIterator[Rig]:
    router = ScriptedRouter(*scripts)
    cache = AnswerCache(BoundedStore(2**20), ttl_s=60, max_bytes=2**20) if cached else None
    answers = Answers(router, NoTurns(), ("chat_low_latency",), cache)
    express = {("POST", "/v1/chat/completions"): completions(answers)}  # as the server has it
    async with serving(openai_routes(answers), express=express) as url:
        made = Rig(router, url)
        async with made.client:
            yield made


async def test_a_question_is_answered() -> None:
    async with rig(["Hello", " there"]) as it:
        answer = await it.client.chat.completions.create(model=MODEL, messages=ASKS)

    assert answer.choices[0].message.content == "Hello there"
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", MODEL)
    assert answer.usage
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (10, 12)
    assert answer._request_id
    assert answer._request_id.startswith("req_")


async def test_an_answer_streams_and_counts_its_tokens_last() -> None:
    async with rig(["Hel", "lo\n🦜"]) as it:
        stream = await it.client.chat.completions.create(
            model=MODEL, messages=ASKS, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]

    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Hello\n🦜"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert len({chunk.id for chunk in chunks}) == len({chunk.created for chunk in chunks}) == 1
    assert chunks[-1].choices == []
    assert chunks[-1].usage
    assert chunks[-1].usage.total_tokens == 12
    assert all(chunk.usage is None for chunk in chunks[:-1])


async def test_without_include_usage_no_chunk_speaks_of_it() -> None:
    async with rig(["Hi"]) as it, httpx.AsyncClient() as client:
        body = {"model": MODEL, "messages": ASKS, "stream": True}
        answer = await client.post(f"{it.url}/v1/chat/completions", json=body)

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"usage"' not in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_call_comes_back_with_its_arguments_as_a_string(stream: bool) -> None:
    async with rig([CALL]) as it:
        if stream:
            async with it.client.chat.completions.stream(
                model=MODEL, messages=ASKS, tools=CLOCK
            ) as events:
                answer: Any = await events.get_final_completion()
        else:
            answer = await it.client.chat.completions.create(
                model=MODEL, messages=ASKS, tools=CLOCK
            )

    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.function.name) == ("call_1", "clock_read")
    assert json.loads(call.function.arguments) == {"city": "Lisbon"}
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None


async def test_a_tools_result_goes_back_to_the_model() -> None:
    called = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "clock_read", "arguments": '{"city":"Lisbon"}'},
    }
    messages: list[Any] = [
        *ASKS,
        {"role": "assistant", "content": None, "tool_calls": [called]},
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "noon"}]},
    ]
    async with rig(["It is noon."]) as it:
        await it.client.chat.completions.create(model=MODEL, messages=messages, tools=CLOCK)

    _, assistant, tool = it.router.requests[0].messages
    assert assistant.tool_calls == (CALL,)
    assert (tool.role, tool.content, tool.tool_call_id) == ("tool", "noon", "call_1")


async def test_only_one_call_is_handed_on_where_only_one_is_wanted() -> None:
    async with rig([CALL, CALL], [CALL, CALL]) as it:
        one = await it.client.chat.completions.create(
            model=MODEL, messages=ASKS, tools=CLOCK, parallel_tool_calls=False
        )
        two = await it.client.chat.completions.create(model=MODEL, messages=ASKS, tools=CLOCK)

    assert len(one.choices[0].message.tool_calls or ()) == 1
    assert len(two.choices[0].message.tool_calls or ()) == 2


class Place(BaseModel):
    """What `parse` is to make."""

    city: str
    country: str


async def test_a_pydantic_model_is_parsed_from_the_answer() -> None:
    async with rig(['{"city": "Paris",', ' "country": "France"}']) as it:
        answer = await it.client.chat.completions.parse(
            model=MODEL, messages=ASKS, response_format=Place
        )

    assert answer.choices[0].message.parsed == Place(city="Paris", country="France")
    schema = it.router.requests[0].json_schema
    assert schema
    assert schema["required"] == ["city", "country"]


async def test_what_was_chosen_reaches_the_router() -> None:
    async with rig(["x"]) as it:
        await it.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "developer", "content": "Be brief."}, *ASKS],
            max_completion_tokens=7,
            temperature=0.3,
            top_p=0.5,
            seed=4,
            stop=["END"],
            presence_penalty=0.1,
            frequency_penalty=-0.1,
            tools=CLOCK,
            tool_choice={"type": "function", "function": {"name": "clock_read"}},
            extra_body={"a_field_of_tomorrow": 1},
        )

    request = it.router.requests[0]
    assert request.messages[0].role == "system"
    assert (request.max_tokens, request.temperature, request.top_p) == (7, 0.3, 0.5)
    assert (request.seed, request.stop, request.tool_choice) == (4, ("END",), "clock_read")
    assert (request.presence_penalty, request.frequency_penalty) == (0.1, -0.1)


async def test_several_choices_are_several_answers() -> None:
    async with rig(["a"], ["b"], ["c"], ["d"]) as it:
        whole = await it.client.chat.completions.create(
            model=MODEL, messages=ASKS, n=2, seed=1, temperature=1
        )
        stream = await it.client.chat.completions.create(
            model=MODEL, messages=ASKS, n=2, stream=True
        )
        chunks = [chunk async for chunk in stream]

    assert [choice.message.content for choice in whole.choices] == ["a", "b"]
    assert sorted(request.seed or 0 for request in it.router.requests[:2]) == [1, 2]
    assert whole.usage
    assert whole.usage.completion_tokens == 4
    said = [(c.choices[0].index, c.choices[0].delta.content) for c in chunks]
    assert [pair for pair in said if pair[1]] == [(0, "c"), (1, "d")]


PICTURE: dict[str, Any] = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}


async def test_pictures_and_further_wishes_reach_the_router() -> None:
    text = {"type": "text", "text": "What is this?"}
    async with rig(["A cat."], ["{}"]) as it:
        await it.client.chat.completions.create(
            model=MODEL,
            messages=[{"role": "user", "content": [text, PICTURE]}],  # type: ignore[list-item,misc]
            reasoning_effort="low",
            verbosity="high",
            parallel_tool_calls=False,
        )
        await it.client.chat.completions.create(
            model=MODEL, messages=ASKS, response_format={"type": "json_object"}
        )

    first, second = it.router.requests
    assert first.messages[0].images == ("https://a.example/b.png",)
    assert (first.reasoning_effort, first.verbosity) == ("low", "high")
    assert first.parallel_tool_calls is False
    assert (second.json_object, second.json_schema) == (True, None)


@pytest.mark.parametrize("stream", [False, True])
async def test_the_likelihood_of_tokens_is_told_to_those_who_ask(stream: bool) -> None:
    other = Likelihood(token="Ho", logprob=-2.5, bytes=(72, 111))
    token = TokenLikelihood(token="Hi", logprob=-0.5, bytes=(72, 105), top=(other,))
    async with rig([TextDelta(text="Hi", logprobs=(token,))]) as it:
        ask: Any = {"model": MODEL, "messages": ASKS, "logprobs": True, "top_logprobs": 1}
        if stream:
            chunks = [c async for c in await it.client.chat.completions.create(**ask, stream=True)]
            told = next(c.choices[0].logprobs for c in chunks if c.choices[0].logprobs)
        else:
            answer = await it.client.chat.completions.create(**ask)
            told = answer.choices[0].logprobs

    assert it.router.requests[0].top_logprobs == 1
    (row,) = told.content
    assert (row.token, row.logprob, row.bytes) == ("Hi", -0.5, [72, 105])
    assert row.top_logprobs[0].token == "Ho"


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"temperature": "hot"}, "temperature"),
    ({"temperature": 3}, "temperature"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
    ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0].type",
    ),
    ({"model": 3}, "model"),
    ({"n": 0}, "n"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    (
        {
            "messages": [
                {"role": "user", "content": [PICTURE | {"image_url": {"url": "file:///x"}}]}
            ]
        },
        "messages[0].content[0].image_url.url",
    ),
    ({"logit_bias": {"50256": -100}}, "logit_bias"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"tools": [{"type": "function"}]}, "tools[0].function"),
    ({"tool_choice": "sometimes"}, "tool_choice"),
    (
        {"tools": CLOCK, "tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice",
    ),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
    ({"functions": []}, "functions"),
]


@pytest.mark.parametrize(("change", "param"), WRONG)
async def test_what_is_wrong_is_named(change: dict[str, Any], param: str) -> None:
    body = {"model": MODEL, "messages": ASKS, **change}
    async with rig() as it, httpx.AsyncClient() as client:
        answer = await client.post(f"{it.url}/v1/chat/completions", json=body)

    error = answer.json()["error"]
    assert (answer.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["param"] == param
    assert set(error) == {"message", "type", "param", "code"}


async def test_a_missing_field_is_named() -> None:
    async with rig() as it, httpx.AsyncClient() as client:
        answer = await client.post(f"{it.url}/v1/chat/completions", json={"messages": ASKS})

    assert answer.json()["error"]["param"] == "model"
    assert "Missing required parameter: 'model'" in answer.json()["error"]["message"]


async def test_every_failure_of_these_routes_has_their_shape() -> None:
    json_type = {"content-type": "application/json"}
    async with rig() as it, httpx.AsyncClient(base_url=it.url) as client:
        route = "/v1/chat/completions"
        found = [
            await client.post(route, content=b"{", headers=json_type),
            await client.post(route, content=b"\xff", headers=json_type),
            await client.post(route, content=b"{}", headers={"content-type": "text/plain"}),
            await client.post(route, content=b"x" * 100_001, headers=json_type),
            await client.get(route),
            await client.get("/v1/models/nothing"),
            await client.get("/v1/files/nothing"),
            await client.post(route, content=b"{}", headers={"host": "evil.example"}),
        ]

    assert [answer.status_code for answer in found] == [400, 400, 400, 413, 405, 404, 404, 403]
    for answer in found:
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
        assert answer.headers["x-request-id"].startswith("req_")


async def test_errors_are_the_clients_own_classes() -> None:
    busy = RateLimited("Too many at once.", retry_after_s=7)
    async with rig([busy], [Unavailable("Loading.")], ["Hi", AnswerCut("It broke.")]) as it:
        create = it.client.chat.completions.create
        with pytest.raises(openai.NotFoundError) as missing:
            await create(model="gpt-nothing", messages=ASKS)
        with pytest.raises(openai.RateLimitError) as limited:
            await create(model=MODEL, messages=ASKS)
        with pytest.raises(openai.InternalServerError):
            await create(model=MODEL, messages=ASKS, stream=True)
        said: list[str] = []
        stream = await create(model=MODEL, messages=ASKS, stream=True)

        async def read() -> None:
            async for chunk in stream:
                said.append(chunk.choices[0].delta.content or "")

        with pytest.raises(openai.APIError, match="It broke"):
            await read()

    assert missing.value.code == "model_not_found"
    assert limited.value.response.headers["retry-after"] == "7"
    assert "".join(said) == "Hi"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_goes_away_cancels_the_call(stream: bool) -> None:
    never = asyncio.Event()
    async with rig(["Hi", never]) as it:
        body = {"model": MODEL, "messages": ASKS, "stream": stream}
        async with httpx.AsyncClient() as client:
            asking = asyncio.create_task(client.post(f"{it.url}/v1/chat/completions", json=body))
            await it.router.asked.wait()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with asyncio.timeout(60):
            await it.router.left.wait()


async def test_the_models_are_listed_and_found_by_their_ids() -> None:
    async with rig() as it:
        listed = [model.id async for model in it.client.models.list()]
        one = await it.client.models.retrieve(MODEL)
        bare = await it.client.models.retrieve("scripted")

    assert listed == ["sonia", MODEL, EMBEDDER, "chat_low_latency"]
    assert (one.id, one.owned_by, bare.id) == (MODEL, "local", MODEL)


async def test_a_bare_name_and_a_profile_are_models_too() -> None:
    async with rig(["a"], ["b"]) as it:
        await it.client.chat.completions.create(model="scripted", messages=ASKS)
        await it.client.chat.completions.create(model="chat_low_latency", messages=ASKS)

    assert [request.model for request in it.router.requests] == [MODEL, None]


# --- the cache -------------------------------------------------------------------------------


async def headers_of(it: Rig, **change: Any) -> tuple[str | None, str]:
    headers = change.pop("headers", {})
    raw = await it.client.chat.completions.with_raw_response.create(
        **{"model": MODEL, "messages": ASKS, "temperature": 0, **change}, extra_headers=headers
    )
    parsed = raw.parse()
    if not change.get("stream"):
        return raw.headers.get("x-sonia-cache"), parsed.choices[0].message.content or ""
    said = [c.choices[0].delta.content or "" async for c in parsed if c.choices]  # type: ignore[attr-defined]
    return raw.headers.get("x-sonia-cache"), "".join(said)


async def test_the_same_question_is_answered_from_the_cache_whole_and_streamed() -> None:
    async with rig(["one"], ["two"], cached=True) as it:
        found = [await headers_of(it), await headers_of(it), await headers_of(it, stream=True)]
        other = await headers_of(it, max_tokens=5)

    assert found == [("miss", "one"), ("hit", "one"), ("hit", "one")]
    assert other == ("miss", "two")


async def test_the_cache_can_be_passed_by() -> None:
    async with rig(["one"], ["two"], ["three"], cached=True) as it:
        first = await headers_of(it, headers={"cache-control": "no-store"})
        second = await headers_of(it, headers={"cache-control": "no-cache"})
        third = await headers_of(it, headers={"cache-control": "no-cache"})
        kept = await headers_of(it)

    assert [first, second, third, kept] == [
        ("miss", "one"),
        ("miss", "two"),
        ("miss", "three"),
        ("hit", "three"),
    ]


async def test_answers_are_not_shared_between_users() -> None:
    async with rig(["one"], ["two"], cached=True) as it:
        found = [await headers_of(it, user="ann"), await headers_of(it, user="bob")]

    assert found == [("miss", "one"), ("miss", "two")]


async def test_what_would_come_out_otherwise_is_not_kept() -> None:
    async with rig(["one"], ["two"], cached=True) as it:
        found = [await headers_of(it, temperature=1), await headers_of(it, temperature=1)]

    assert found == [(None, "one"), (None, "two")]


async def test_an_answer_that_broke_is_not_kept() -> None:
    async with rig(["o", AnswerCut("It broke.")], ["two"], cached=True) as it:
        with pytest.raises(openai.APIError):
            await headers_of(it)
        found = await headers_of(it)

    assert found == ("miss", "two")


# --- embeddings ------------------------------------------------------------------------------


async def test_embeddings_come_in_base64_and_as_numbers() -> None:
    async with rig() as it:
        packed = await it.client.embeddings.create(model=EMBEDDER, input=["a cat", "a dog"])
        plain = await it.client.embeddings.create(
            model=EMBEDDER, input="a cat", encoding_format="float"
        )

    assert [row.index for row in packed.data] == [0, 1]
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


async def test_tokens_of_openais_tokenizer_are_the_text_they_stand_for() -> None:
    async with rig() as it:
        tokens = await it.client.embeddings.create(model=EMBEDDER, input=[[15339, 1917]])
        one = await it.client.embeddings.create(model=EMBEDDER, input=[15339, 1917])
        text = await it.client.embeddings.create(model=EMBEDDER, input="hello world")

    assert tokens.data[0].embedding == text.data[0].embedding == one.data[0].embedding


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", [1]]}, "input"),
        ({"input": [[999_999_999]]}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"dimensions": 7}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
    ],
)
async def test_what_can_not_be_embedded_is_refused(change: dict[str, Any], param: str) -> None:
    async with rig() as it, httpx.AsyncClient() as client:
        body = {"model": EMBEDDER, "input": "x", **change}
        answer = await client.post(f"{it.url}/v1/embeddings", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_forgetting_a_person_empties_their_cache_and_no_other() -> None:
    bus, router = Bus(), ScriptedRouter(["one"], ["two"], ["three"])
    opened = open_answers(
        ApiGateway(), router=router, turns=NoTurns(), profiles=("chat_low_latency",), bus=bus
    )
    async with opened as answers, serving(openai_routes(answers)) as url:
        it = Rig(router, url)
        async with it.client:
            await headers_of(it, user="ann")
            await headers_of(it, user="bob")
            await bus.publish(Forgotten(receipt="r", user_ids=("ann",)))
            found = [await headers_of(it, user="ann"), await headers_of(it, user="bob")]

    assert found == [("miss", "three"), ("hit", "two")]
