"""Several local models on one machine: on demand, in turn, side by side, held to a form."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from router_tools import TOOLS

from sonia.config import Config, EmbeddingModel, Local, ModelRouter, Providers
from sonia.errors import InvalidRequest, UpstreamError, UpstreamTimeout
from sonia.router import (
    ChatEvent,
    ChatRequest,
    FallbackRouter,
    Finished,
    TextDelta,
    ToolCallProposed,
    open_router,
)
from sonia.router.backends.gguf import ModelFileInvalid
from sonia.router.backends.room import ModelTooLarge
from sonia.types import Message, ToolSpec
from sonia.weights import Weights

pytestmark = pytest.mark.asyncio(loop_scope="module")

SMALL = "smollm2-135m-instruct"
STORY = (Message(role="user", content="Tell me a long story about a fox."),)


@asynccontextmanager
async def routing(folder: Path | None = None, **local: Any) -> AsyncIterator[FallbackRouter]:
    """A router with SmolLM2 and the files of `folder`, loaded when asked."""
    settings = {"models": (SMALL,), "context_tokens": 1024, "warm": False, **local}
    config = ModelRouter(
        providers=Providers(local=Local(folder=str(folder or ""), **settings)),
        profiles={"chat_low_latency": (f"local/{SMALL}",)},
    )
    async with open_router(config, EmbeddingModel(), Weights(Config().models)) as router:
        yield router


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def small() -> AsyncIterator[FallbackRouter]:
    async with routing(parallel=4) as router:
        yield router


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def weights() -> Path:
    (path,) = (await Weights(Config().models).ensure(SMALL)).values()
    return path


async def ask(
    router: FallbackRouter, messages: tuple[Message, ...] = STORY, **request: Any
) -> list[ChatEvent]:
    request = {"max_tokens": 4, **request}
    async with router.chat(ChatRequest(messages=messages, **request)) as events:
        return [event async for event in events]


def text_of(events: list[ChatEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def end_of(events: list[ChatEvent]) -> Finished:
    assert isinstance(events[-1], Finished)
    return events[-1]


def devices(router: FallbackRouter) -> dict[str, str | None]:
    """Where each model is loaded, by its id."""
    return {info.id: info.device for info in router.models()}


def loaded(router: FallbackRouter) -> set[str]:
    models = router._local._models
    return {name for name, model in models.items() if model.state == "loaded"}


@pytest.fixture
def folder(tmp_path: Path, weights: Path) -> Path:
    """A folder of one's own, with two models in it."""
    for name in ("Mine-A.gguf", "Mine-B.gguf"):
        (tmp_path / name).symlink_to(weights)
    return tmp_path


async def test_a_model_is_loaded_when_asked_and_a_file_of_ones_own_is_a_model(
    folder: Path,
) -> None:
    async with routing(folder) as router:
        before = loaded(router)
        end = end_of(await ask(router, model="local/mine-a"))

        assert before == set()
        assert loaded(router) == {"mine-a"}
        assert (end.model, end.reason) == ("local/mine-a", "length")
        assert {"local/mine-a", "local/mine-b"} <= {info.id for info in router.models()}
        assert devices(router)["local/mine-a"]
        assert devices(router)["local/mine-b"] is None


async def test_without_leave_for_the_graphics_card_the_processor_computes() -> None:
    async with routing(gpu=False) as router:
        await ask(router)

        assert devices(router)[f"local/{SMALL}"] == "cpu"


async def test_the_longest_unused_makes_way_and_who_answers_stays(folder: Path) -> None:
    async with routing(folder, memory_budget_mb=1150) as router:  # two of three fit
        await ask(router, model="local/mine-a")
        await ask(router, model="local/mine-b")
        await ask(router, model="local/mine-a")
        await ask(router, model=f"local/{SMALL}")

        assert loaded(router) == {"mine-a", SMALL}

        request = ChatRequest(messages=STORY, model="local/mine-a", max_tokens=400)
        async with router.chat(request) as events, AsyncExitStack() as stack:
            await anext(events)
            second = ChatRequest(messages=STORY, model=f"local/{SMALL}", max_tokens=400)
            others = await stack.enter_async_context(router.chat(second))
            await anext(others)
            waiting = asyncio.create_task(ask(router, model="local/mine-b"))
            for _ in range(3):
                await anext(events)
                await anext(others)
            assert not waiting.done()
            assert loaded(router) == {"mine-a", SMALL}

        assert end_of(await waiting).model == "local/mine-b"


async def test_a_model_that_can_not_fit_is_refused_with_the_numbers() -> None:
    async with routing(memory_budget_mb=200) as router:
        with pytest.raises(ModelTooLarge, match="200 MiB") as caught:
            await ask(router)

    assert caught.value.details["needed_mb"] > caught.value.details["budget_mb"] == 200


async def test_an_idle_model_is_let_go_and_comes_back() -> None:
    async with routing(idle_unload_s=0.05) as router:
        await ask(router)
        model = router._local._models[SMALL]
        while model.state != "gone":
            await model._turned.wait()

        assert loaded(router) == set()
        assert text_of(await ask(router))


async def test_t47_a_broken_file_is_refused_by_name_and_the_others_answer(
    folder: Path, weights: Path
) -> None:
    cut = (folder / "cut.gguf").write_bytes
    await asyncio.to_thread(lambda: cut(weights.read_bytes()[:2_000_000]))

    async with routing(folder) as router:
        with pytest.raises(ModelFileInvalid, match=r"cut\.gguf"):
            await ask(router, model="local/cut")

        assert text_of(await ask(router, model="local/mine-a"))


async def test_answers_at_once_are_batched(small: FallbackRouter) -> None:
    arrived: list[int] = []

    async def one(index: int) -> None:
        messages = (Message(role="user", content=f"Write story number {index}."),)
        async with small.chat(ChatRequest(messages=messages, max_tokens=24)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    arrived.append(index)

    async with asyncio.TaskGroup() as group:
        for index in range(4):
            group.create_task(one(index))

    turns = sum(a != b for a, b in pairwise(arrived))
    assert turns > len(arrived) / 2  # one after the other would be 3


async def test_interleaved_sessions_each_keep_their_beginning(small: FallbackRouter) -> None:
    talks = {
        name: (
            Message(role="system", content=f"You are {name}. " + f"{name} likes tea. " * 40),
            Message(role="user", content="Hello"),
        )
        for name in ("Ann", "Bob", "Cleo", "Dan", "Eve", "Finn")
    }
    for name, talk in talks.items():
        answer = text_of(await ask(small, talk))
        more = Message(role="user", content="And then?")
        talks[name] = (*talk, Message(role="assistant", content=answer), more)

    for talk in talks.values():
        usage = end_of(await ask(small, talk)).usage
        assert usage.prompt_tokens - usage.cached_tokens < 40


@pytest.mark.parametrize("choice", ["required", "shell.run", "math.evaluate"])
async def test_a_tool_that_has_to_be_called_is_called_with_valid_arguments(
    small: FallbackRouter, choice: str
) -> None:
    hello = (Message(role="user", content="Hello there!"),)

    events = await ask(small, hello, tools=TOOLS, tool_choice=choice, max_tokens=400)

    if end_of(events).reason == "tool_calls":
        (call,) = [event.call for event in events if isinstance(event, ToolCallProposed)]
        assert choice in ("required", call.name)
    else:
        assert (end_of(events).reason, text_of(events)) == ("length", "")


async def test_no_tool_is_called_when_none_may_be(small: FallbackRouter) -> None:
    run = (Message(role="user", content="Run pwd"),)

    events = await ask(small, run, tools=TOOLS, tool_choice="none")

    assert text_of(events)
    assert end_of(events).reason == "length"


async def test_a_tool_that_is_not_offered_can_not_be_chosen(small: FallbackRouter) -> None:
    with pytest.raises(InvalidRequest, match=r"web\.fetch"):
        await ask(small, tools=TOOLS, tool_choice="web.fetch")
    with pytest.raises(InvalidRequest, match="No tools"):
        await ask(small, tool_choice="required")


async def test_a_call_that_the_limit_cuts_says_length(small: FallbackRouter) -> None:
    events = await ask(small, tools=TOOLS, tool_choice="file.write", max_tokens=3)

    assert len(events) == 1
    assert end_of(events).reason == "length"


async def test_a_tools_schema_that_no_grammar_holds_is_still_kept_to(small: FallbackRouter) -> None:
    tool = ToolSpec(
        name="pick",
        description="Pick two different numbers.",
        parameters={
            "type": "object",
            "properties": {"n": {"type": "array", "items": {"enum": [1]}, "uniqueItems": True}},
            "required": ["n"],
            "additionalProperties": False,
        },
    )

    events: list[ChatEvent] = []
    with suppress(UpstreamError):  # it says that it found no valid arguments
        events = await ask(small, tools=(tool,), tool_choice="required", max_tokens=40)

    calls = [event.call for event in events if isinstance(event, ToolCallProposed)]
    assert all(call.arguments["n"] in ([], [1]) for call in calls)


SCHEMAS: dict[str, dict[str, Any]] = {
    "nested": {
        "type": "object",
        "properties": {
            "who": {"$ref": "#/$defs/person"},
            "kind": {"enum": ["a", "b"]},
            "when": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"},
            "tags": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3},
            "maybe": {"anyOf": [{"type": "null"}, {"type": "integer", "minimum": 3, "maximum": 5}]},
        },
        "required": ["who", "kind", "when", "tags", "maybe"],
        "additionalProperties": False,
        "$defs": {
            "person": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 12}},
                "required": ["name"],
                "additionalProperties": False,
            }
        },
    },
    "list": {"type": "array", "items": {"enum": ["x", "y"]}, "minItems": 2, "maxItems": 2},
    "one of": {"anyOf": [{"const": {"k": 1}}, {"const": {"k": 2}}]},
}


@pytest.mark.parametrize("name", list(SCHEMAS))
async def test_the_whole_answer_is_one_document_of_its_schema(
    small: FallbackRouter, name: str
) -> None:
    import jsonschema

    schema = SCHEMAS[name]

    events = await ask(small, json_schema=schema, max_tokens=200, temperature=1.5, seed=7)

    assert end_of(events).reason == "stop"
    jsonschema.validate(json.loads(text_of(events)), schema)


async def test_a_document_that_the_limit_cuts_says_length(small: FallbackRouter) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "minLength": 200}}}

    events = await ask(small, json_schema={**schema, "required": ["a"]}, max_tokens=9)

    assert end_of(events).reason == "length"
    with pytest.raises(json.JSONDecodeError):
        json.loads(text_of(events))


async def test_a_schema_that_can_not_be_enforced_is_refused(small: FallbackRouter) -> None:
    with pytest.raises(InvalidRequest, match="uniqueItems"):
        await ask(small, json_schema={"type": "array", "uniqueItems": True})


async def test_an_answer_ends_before_its_stop_text(small: FallbackRouter) -> None:
    whole = text_of(await ask(small, max_tokens=20))
    word = whole.split()[5]

    events = await ask(small, max_tokens=20, stop=(word,))

    assert word not in text_of(events)
    assert whole.startswith(text_of(events).rstrip())
    assert end_of(events).reason == "stop"


async def test_a_seed_makes_a_free_answer_the_same_again(small: FallbackRouter) -> None:
    async def tell(seed: int) -> str:
        return text_of(await ask(small, temperature=1.5, top_p=0.9, seed=seed, max_tokens=12))

    assert await tell(1) == await tell(1) != await tell(2)


async def test_r10_an_engine_that_stands_still_is_given_up_and_loaded_anew() -> None:
    async with routing(stall_s=4) as router:
        await ask(router)
        model = router._local._models[SMALL]
        engine, blocked = model._loaded_engine(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def stand_still(body: object, on_chunk: object) -> None:
            asyncio.run_coroutine_threadsafe(blocked.wait(), loop).result()

        engine.generate = stand_still  # type: ignore[method-assign]
        with pytest.raises(UpstreamTimeout, match="stood still"):
            await ask(router)

        try:
            assert text_of(await ask(router))
        finally:
            blocked.set()
