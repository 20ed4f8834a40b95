"""The router's routes, over a router that plays a script."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec
import pytest
from litestar import Litestar
from litestar.testing import TestClient

from sonia.envelope import exception_handlers
from sonia.errors import SoniaError, Unavailable
from sonia.router import (
    ChatEvent,
    ChatRequest,
    Finished,
    ModelInfo,
    ProviderInfo,
    Route,
    TextDelta,
    ToolCallProposed,
)
from sonia.router.http import routes
from sonia.types import ToolCall, Usage

MODEL = "local/m"
CALL = ToolCall(id="c1", name="file.read", arguments={"path": "a"})
DONE = Finished(model=MODEL, provider="local", reason="stop", usage=Usage(), first_token_ms=1.0)
HELLO = {"messages": [{"role": "user", "content": "hello"}]}


class Scripted:
    """Plays `script`; remembers what was asked."""

    def __init__(self, *script: ChatEvent | SoniaError) -> None:
        self.script = script
        self.asked: list[ChatRequest] = []
        self.left = 0

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.asked.append(request)
        if self.script and isinstance(self.script[0], SoniaError):
            raise self.script[0]
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

    def route(
        self, profile: str = "chat_low_latency", model: str | None = None, **_: object
    ) -> Route:
        return Route(
            profile=profile, model=model or MODEL, provider="local", candidates=(), reason="r"
        )

    def providers(self) -> tuple[ProviderInfo, ...]:
        return (ProviderInfo(name="local", state="ready", models=(MODEL,)),)

    def models(self) -> tuple[ModelInfo, ...]:
        return (ModelInfo(id=MODEL, provider="local", context_tokens=10),)


def client(router: Any) -> TestClient[Litestar]:
    return TestClient(Litestar(routes(router), exception_handlers=exception_handlers()))


def events_of(body: str) -> list[tuple[str, Any]]:
    blocks = [block for block in body.replace("\r\n", "\n").split("\n\n") if "event:" in block]
    pairs = [dict(line.split(": ", 1) for line in block.splitlines()) for block in blocks]
    return [(pair["event"], json.loads(pair["data"])) for pair in pairs]


def test_an_answer_comes_whole_in_an_envelope() -> None:
    router = Scripted(TextDelta(text="Hel"), TextDelta(text="lo"), DONE)

    with client(router) as http:
        answer = http.post("/chat", json=HELLO)

    assert answer.status_code == 200
    assert answer.json()["ok"] is True
    assert answer.json()["data"]["response"] == "Hello"
    assert answer.json()["data"]["finish_reason"] == "stop"
    assert router.left == 1


def test_an_answer_streams_as_named_events() -> None:
    router = Scripted(TextDelta(text="Hello"), ToolCallProposed(call=CALL), DONE)

    with client(router) as http:
        answer = http.post("/chat", json={**HELLO, "stream": True})

    assert answer.headers["content-type"].startswith("text/event-stream")
    names = [name for name, _ in events_of(answer.text)]
    assert names == ["response.delta", "tool.call", "response.done"]
    assert events_of(answer.text)[-1][1]["response"] == "Hello"
    assert events_of(answer.text)[-1][1]["tool_calls"][0]["name"] == "file.read"
    assert router.left == 1


def test_a_stream_that_breaks_ends_with_an_error_event() -> None:
    router = Scripted(TextDelta(text="Hel"), Unavailable("gone"))

    with client(router) as http:
        answer = http.post("/chat", json={**HELLO, "stream": True})

    assert [name for name, _ in events_of(answer.text)] == ["response.delta", "error"]
    assert events_of(answer.text)[-1][1]["code"] == "unavailable"
    assert router.left == 1


@pytest.mark.parametrize("stream", [True, False])
def test_a_model_that_fails_first_is_a_plain_error_answer(stream: bool) -> None:
    with client(Scripted(Unavailable("loading"))) as http:
        answer = http.post("/chat", json={**HELLO, "stream": stream})

    assert answer.status_code == 503
    assert answer.json()["error"]["message"] == "loading"


def test_task_type_is_another_word_for_profile() -> None:
    router = Scripted(DONE)

    with client(router) as http:
        http.post("/chat", json={**HELLO, "task_type": "coding"})
        routed = http.get("/route", params={"task_type": "coding"})
        selected = http.post("/select", json={"task_type": "coding", "model": "local/x"})

    assert router.asked[0].profile == "coding"
    assert routed.json()["data"]["profile"] == "coding"
    assert selected.json()["data"]["model"] == "local/x"


def test_providers_and_models_are_listed() -> None:
    with client(Scripted()) as http:
        providers = http.get("/providers").json()["data"]["providers"]
        models = http.get("/models").json()["data"]["models"]
        local = http.get("/models/local").json()["data"]["models"]
        unknown = http.get("/models/nobody")

    assert providers[0]["state"] == "ready"
    assert models == local
    assert unknown.status_code == 404
    assert unknown.json()["error"]["details"]["known"] == ["local"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": []},
        {**HELLO, "max_tokens": 0},
        {**HELLO, "temperature": 3},
        {**HELLO, "colour": "red"},
        {"messages": [{"role": "king", "content": "x"}]},
    ],
)
def test_a_wrong_body_is_an_invalid_request(body: dict[str, Any]) -> None:
    router = Scripted(DONE)

    with client(router) as http:
        answer = http.post("/chat", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert not router.asked


def test_what_is_chosen_of_an_answer_reaches_the_model() -> None:
    router = Scripted(TextDelta(text="Hi"), DONE)
    tool = {"name": "file.read", "description": "", "parameters": {"type": "object"}}
    chosen = {
        "tool_choice": "file.read",
        "top_p": 0.5,
        "seed": 7,
        "stop": ["END"],
        "frequency_penalty": 1.0,
        "presence_penalty": -1.0,
    }

    with client(router) as http:
        answer = http.post("/chat", json={**HELLO, "tools": [tool], **chosen})

    assert answer.status_code == 200
    asked = msgspec.to_builtins(router.asked[0])
    assert {name: asked[name] for name in chosen} == {**chosen, "stop": ("END",)}


@pytest.mark.parametrize(
    "wrong", [{"top_p": 0}, {"seed": -1}, {"stop": [""]}, {"stop": ["a"] * 5}, {"tool_choice": ""}]
)
def test_a_choice_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    router = Scripted()

    with client(router) as http:
        answer = http.post("/chat", json={**HELLO, **wrong})

    assert answer.status_code == 400
    assert router.asked == []
