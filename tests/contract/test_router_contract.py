"""What holds for every router answer, whoever the model is; and fallback between backends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest

from sonia.config import EmbeddingModel, Local, ModelRouter, Providers
from sonia.errors import InvalidRequest, RateLimited, SoniaError, Unavailable, UpstreamTimeout
from sonia.router import (
    AnswerCut,
    ChatEvent,
    ChatRequest,
    ContextExceeded,
    FallbackRouter,
    Finished,
    ModelInfo,
    ModelNotFound,
    ProviderInfo,
    Router,
    TextDelta,
)
from sonia.router.backends.facts import ModelFacts
from sonia.router.backends.local import LocalBackend
from sonia.router.background import open_background
from sonia.router.embeddings import LocalEmbeddings
from sonia.router.service import open_router
from sonia.types import Message, Usage
from sonia.weights import Weights

HELLO = (Message(role="user", content="Hello"),)


class Scripted:
    """A backend that plays events and then ends, raises, or waits for ever."""

    def __init__(self, name: str, *script: ChatEvent | SoniaError, waits: bool = False) -> None:
        self.name = name
        self.script = script
        self.waits = waits
        self.asked = 0
        self.entered = asyncio.Event()
        self.left = 0

    prefills = True

    def facts(self, model: str) -> ModelFacts:
        return ModelFacts(context_tokens=1000, vision=False)

    async def learn(self, model: str) -> None:
        pass

    def info(self) -> ProviderInfo:
        return ProviderInfo(name=self.name, state="ready", models=(f"{self.name}/m",))

    def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(id=f"{self.name}/m", provider=self.name, context_tokens=1000),)

    def serves(self, model: str) -> bool:
        return model == "m"

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.asked += 1
        self.entered.set()
        try:
            async with aclosing(self._play()) as events:
                yield events
        finally:
            self.left += 1

    async def _play(self) -> AsyncIterator[ChatEvent]:
        for step in self.script:
            if isinstance(step, SoniaError):
                raise step
            yield step
        if self.waits:
            await asyncio.Event().wait()

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        return len(messages)

    def context_tokens(self, model: str) -> int:
        return 1000


def done(name: str) -> Finished:
    return Finished(
        model=f"{name}/m", provider=name, reason="stop", usage=Usage(), first_token_ms=1.0
    )


def answering(name: str) -> Scripted:
    return Scripted(name, TextDelta(text="yes"), done(name))


@asynccontextmanager
async def routing(*backends: Scripted, **settings: Any) -> AsyncIterator[FallbackRouter]:
    config = ModelRouter(
        providers=Providers(local=Local(models=())),
        profiles={"chat_low_latency": tuple(f"{backend.name}/m" for backend in backends)},
        **({"retries": 0} | settings),
    )
    with TemporaryDirectory() as folder:
        weights = Weights(Path(folder))
        async with open_background() as background:
            local = LocalBackend(config.providers.local, weights, background, set())
            vectors = LocalEmbeddings("all-minilm-l6-v2", weights)
            yield FallbackRouter(config, local, backends, vectors)


async def events_of(router: Router, **request: str) -> list[ChatEvent]:
    async with router.chat(ChatRequest(messages=HELLO, **request)) as events:
        return [event async for event in events]


@pytest.mark.parametrize(
    "failure",
    [
        Unavailable("down"),
        RateLimited("slow"),
        UpstreamTimeout("late"),
        AnswerCut("cut before the first word"),
    ],
)
async def test_a_candidate_that_fails_before_its_first_event_is_passed_over(
    failure: SoniaError,
) -> None:
    first, second = Scripted("one", failure), answering("two")

    async with routing(first, second) as router:
        events = await events_of(router)

    assert events == [TextDelta(text="yes"), done("two")]
    assert (first.asked, first.left) == (1, 1)


async def test_a_candidate_that_says_nothing_is_passed_over_at_the_first_token_deadline() -> None:
    first, second = Scripted("one", waits=True), answering("two")

    async with routing(first, second, first_token_timeout_s=0.2) as router:
        events = await events_of(router)

    assert events[-1] == done("two")
    assert first.left == 1


async def test_an_answer_that_breaks_is_gone_on_with_and_nothing_is_said_twice() -> None:
    first = Scripted("one", TextDelta(text="The capital of "), Unavailable("died"))
    second = Scripted("two", TextDelta(text="capital of "), TextDelta(text="France"), done("two"))

    async with routing(first, second) as router:
        events = await events_of(router)

    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "The capital of France"
    assert events[-1] == msgspec.structs.replace(done("two"), begun_by="one/m")


async def test_an_answer_that_nobody_can_go_on_with_is_cut() -> None:
    first = Scripted("one", TextDelta(text="ye"), Unavailable("died"))

    async with routing(first, Scripted("two", Unavailable("down"))) as router:
        with pytest.raises(AnswerCut):
            await events_of(router)


async def test_r12_an_answer_without_its_end_is_cut() -> None:
    async with routing(Scripted("one", TextDelta(text="ye"))) as router:
        with pytest.raises(AnswerCut):
            await events_of(router)


async def test_r13_an_answer_that_never_ends_meets_the_total_deadline() -> None:
    backend = Scripted("one", TextDelta(text="ye"), waits=True)

    async with routing(backend, total_timeout_s=0.4) as router:
        with pytest.raises(UpstreamTimeout):
            await events_of(router)

    assert backend.left == 1


async def test_when_all_fail_the_last_error_is_told() -> None:
    async with routing(Scripted("one", Unavailable("a")), Scripted("two", RateLimited("b"))) as r:
        with pytest.raises(RateLimited, match="b"):
            await events_of(r)


async def test_a_prompt_that_is_too_long_goes_to_a_model_that_holds_more() -> None:
    async with routing(Scripted("one", ContextExceeded("long")), answering("two")) as router:
        events = await events_of(router)

    assert events[-1] == done("two")


async def test_a_prompt_that_no_model_holds_is_the_callers_to_shorten() -> None:
    first = answering("one")
    request = ChatRequest(messages=(Message(role="user", content="word " * 2000),))

    async with routing(first) as router:
        with pytest.raises(ContextExceeded, match="holds 1000 tokens"):
            async with router.chat(request):
                pass

    assert first.asked == 0


async def test_a_picture_goes_to_no_model_that_sees_none() -> None:
    first = answering("one")
    message = Message(role="user", content="What is this?", images=("https://example.org/a.png",))

    async with routing(first) as router:
        with pytest.raises(InvalidRequest, match="sees no pictures"):
            async with router.chat(ChatRequest(messages=(message,))):
                pass

    assert first.asked == 0


async def test_a_model_that_is_named_is_tried_alone() -> None:
    first, second = answering("one"), Scripted("two", Unavailable("down"))

    async with routing(first, second) as router:
        with pytest.raises(Unavailable):
            await events_of(router, model="two/m")

    assert first.asked == 0


async def test_no_provider_outside_the_profile_is_asked() -> None:
    outside = answering("cloud")

    async with routing(Scripted("one", Unavailable("down")), outside) as router:
        router._config.profiles["chat_low_latency"] = ("one/m",)
        with pytest.raises(Unavailable):
            await events_of(router)

    assert outside.asked == 0


@pytest.mark.parametrize("model", ["nobody/m", "one/other", "one", "", "one/"])
async def test_an_unknown_model_is_not_found_and_the_known_are_listed(model: str) -> None:
    async with routing(answering("one")) as router:
        with pytest.raises(ModelNotFound) as caught:
            await events_of(router, model=model)

    assert caught.value.details["known"] == ["one/m"]


async def test_an_unknown_profile_is_refused() -> None:
    async with routing(answering("one")) as router:
        with pytest.raises(InvalidRequest, match="chat_low_latency"):
            await events_of(router, profile="nonsense")


async def test_leaving_an_answer_early_leaves_the_backend() -> None:
    backend = Scripted("one", TextDelta(text="ye"), waits=True)

    async with routing(backend) as router:
        async with router.chat(ChatRequest(messages=HELLO)) as events:
            await anext(events)

        assert backend.left == 1


async def test_a_cancelled_caller_leaves_the_backend() -> None:
    backend = Scripted("one", TextDelta(text="ye"), waits=True)

    async with routing(backend) as router:
        caller = asyncio.create_task(events_of(router))
        await backend.entered.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

    assert backend.left == 1


async def test_a_route_says_where_and_why() -> None:
    async with routing(answering("one"), answering("two")) as router:
        route = router.route()

    assert (route.model, route.provider) == ("one/m", "one")
    assert route.candidates == ("one/m", "two/m")
    assert route.reason == "profile chat_low_latency"


async def test_open_router_fits_its_protocol(tmp_path: Path) -> None:
    config = ModelRouter(providers=Providers(local=Local(models=())), profiles={})

    async with open_router(config, EmbeddingModel(), Weights(tmp_path)) as router:
        assert isinstance(router, Router)
