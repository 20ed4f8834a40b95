"""One way to an answer for every protocol: a request in, the router's events out.

A protocol turns its body into an `Asked` and the events into its own words; which model it is,
whether the whole assistant answers, and what is kept for the next time, is decided here.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from sonia.config import ApiGateway
from sonia.errors import InvalidRequest
from sonia.events import Bus, Forgotten
from sonia.gateway.cache import AnswerCache
from sonia.gateway.shared_store import open_store
from sonia.router import (
    ChatEvent,
    ChatRequest,
    Finished,
    ModelNotFound,
    Router,
    TextDelta,
    TokenLikelihood,
    ToolCallProposed,
)
from sonia.turn import MAX_TEXT_CHARS, ResponseDelta, TurnDone, TurnRequest, Turns
from sonia.types import DEFAULT_USER, Message, ToolCall, Value

ASSISTANT = "sonia"
DEFAULT_MAX_TOKENS = 2048
_SESSION = re.compile(r"^[A-Za-z0-9_.:\-]{1,128}$")


class Target(Value):
    """What a model's name means. `shown` is how it is called in answers."""

    shown: str
    model: str | None = None
    profile: str = "chat_low_latency"

    @property
    def assistant(self) -> bool:
        """The whole of Sonia, not a bare model."""
        return self.shown == ASSISTANT


class Asked(Value):
    """One answer that is wanted. `cache` says what may be done with kept ones."""

    target: Target
    request: ChatRequest
    user_id: str = DEFAULT_USER
    session_id: str | None = None
    read_cache: bool = True
    write_cache: bool = True


class Opened(msgspec.Struct):
    """An answer that has begun. `cache` is `hit`, `miss`, or empty where none is kept."""

    events: AsyncIterator[ChatEvent]
    cache: str = ""


class Answer(Value):
    """An answer, whole."""

    text: str
    calls: tuple[ToolCall, ...]
    finished: Finished
    cache: str = ""
    logprobs: tuple[TokenLikelihood, ...] = ()


class Answers:
    """Models and the assistant behind one door. `profiles` may be asked for by name."""

    def __init__(
        self, router: Router, turns: Turns, profiles: tuple[str, ...], cache: AnswerCache | None
    ) -> None:
        self.router = router
        self.turns = turns
        self.profiles = profiles
        self.cache = cache

    def resolve(self, name: str) -> Target:
        """`sonia`, `provider/model`, a model's own name, or a profile. Raises `ModelNotFound`."""
        if name == ASSISTANT:
            return Target(shown=ASSISTANT)
        if "/" in name:
            return Target(shown=name, model=name)
        known = [info.id for info in self.router.models() if not info.embedding]
        found = [model for model in known if model.partition("/")[2] == name]
        if len(found) == 1:
            return Target(shown=found[0], model=found[0])
        if found:
            raise InvalidRequest(f"Which {name}? There are {', '.join(found)}.", field="model")
        if name in self.profiles:
            return Target(shown=name, profile=name)
        names = [ASSISTANT, *known, *self.profiles]
        raise ModelNotFound(
            f"The model {name!r} does not exist. There are: {', '.join(names)}.",
            field="model",
            known=names,
        )

    def temperature(self, target: Target, wanted: float | None) -> float:
        """What was wanted, else the protocols' default of 1; a local model is not let ramble."""
        if wanted is not None:
            return wanted
        name = target.model or self.router.route(target.profile).model
        return 0.0 if name.startswith("local/") else 1.0

    @asynccontextmanager
    async def open(self, asked: Asked, *, whole: bool = False) -> AsyncIterator[Opened]:
        """Enter for the answer's beginning; leave to cancel it, upstream too.

        `whole` says that nobody reads along, which is cheaper.
        """
        if asked.target.assistant:
            async with self.turns.turn(_turn(asked)) as steps, aclosing(_spoken(steps)) as events:
                yield Opened(events)
            return
        request = msgspec.structs.replace(
            asked.request, user_id=asked.user_id, session_id=asked.session_id, whole=whole
        )
        cache = self.cache if AnswerCache.keeps(asked.request) else None
        if cache is None:
            async with self.router.chat(request) as events:
                yield Opened(events)
            return
        key = cache.key(asked.request)
        if asked.read_cache and (kept := await cache.find(asked.user_id, key)):
            yield Opened(_replayed(kept), "hit")
            return
        async with self.router.chat(request) as events:
            if not asked.write_cache:
                yield Opened(events, "miss")
                return
            async with aclosing(cache.keeping(asked.user_id, key, events)) as keeping:
                yield Opened(keeping, "miss")

    async def whole(self, asked: Asked, *, one_call: bool = False) -> Answer:
        """All of it. `one_call` drops all tool calls but the first."""
        text: list[str] = []
        calls: list[ToolCall] = []
        likely: list[TokenLikelihood] = []
        async with self.open(asked, whole=True) as opened:
            async for event in opened.events:
                if isinstance(event, TextDelta):
                    text.append(event.text)
                    likely += event.logprobs
                elif isinstance(event, ToolCallProposed):
                    calls.append(event.call)
                else:
                    finished = event
        return Answer(
            text="".join(text),
            calls=tuple(calls[:1] if one_call else calls),
            finished=finished,
            cache=opened.cache,
            logprobs=tuple(likely),
        )


@asynccontextmanager
async def open_answers(
    config: ApiGateway, *, router: Router, turns: Turns, profiles: Iterable[str], bus: Bus
) -> AsyncIterator[Answers]:
    """Answer for every protocol until left; what was kept in this process is gone then."""
    caching = config.caching
    async with open_store(caching) as store:
        room_bytes = caching.max_size_mb * 2**20
        kept = AnswerCache(store, ttl_s=caching.ttl_seconds, max_bytes=room_bytes)

        async def forget(fact: Forgotten) -> None:
            for user_id in fact.user_ids:
                await kept.forget(user_id)

        undo = bus.subscribe(Forgotten, forget)
        try:
            yield Answers(router, turns, tuple(profiles), kept if caching.enabled else None)
        finally:
            undo()


def cache_wishes(headers: Mapping[str, str]) -> dict[str, bool]:
    """`Cache-Control`, as RFC 9111 means it: `no-cache` asks anew, `no-store` keeps nothing."""
    if "cache-control" not in headers:
        return {}
    words = {word.strip().lower() for word in headers["cache-control"].split(",")}
    store = "no-store" not in words
    return {"read_cache": store and "no-cache" not in words, "write_cache": store}


def session_of(metadata: Mapping[str, Any] | None) -> str | None:
    """The session that a client names in its request's metadata. Raises `InvalidRequest`."""
    name = (metadata or {}).get("session_id")
    if name is not None and not (isinstance(name, str) and _SESSION.match(name)):
        raise InvalidRequest(
            "A session_id has 1 to 128 letters, digits and any of _ . : -",
            param="metadata.session_id",
        )
    return name


# --- the assistant -----------------------------------------------------------------------


def _turn(asked: Asked) -> TurnRequest:
    request = asked.request
    if request.tools:
        raise InvalidRequest(
            "sonia uses tools of her own; yours can't be added. Ask a bare model, or leave them.",
            param="tools",
        )
    if request.json_schema is not None or request.json_object:
        raise InvalidRequest(
            "sonia answers in words. Ask a bare model for JSON.", param="response_format"
        )
    if request.top_logprobs is not None:
        raise InvalidRequest("sonia tells no logprobs.", param="logprobs")
    if any(message.images for message in request.messages):
        raise InvalidRequest("sonia sees no pictures here yet. Ask a bare model.", param="messages")
    if any(message.role == "tool" for message in request.messages):
        raise InvalidRequest("sonia's tools answer her themselves.", param="messages")
    *before, last = request.messages or (Message(role="system", content=""),)
    if last.role != "user" or not last.content:
        raise InvalidRequest("The last message has to be the user's.", param="messages")
    if len(last.content) > MAX_TEXT_CHARS:
        most = f"A message has at most {MAX_TEXT_CHARS} characters."
        raise InvalidRequest(most, param="messages")
    return TurnRequest(
        text=last.content,
        session_id=session_name(asked),
        user_id=asked.user_id,
        history=tuple(before),
        max_answer_tokens=request.max_tokens,
    )


def session_name(asked: Asked) -> str | None:
    """The session of the assistant's turn; None for a bare model.

    It is the same for every request of one conversation: the beginning never changes.
    """
    if not asked.target.assistant or asked.session_id is not None:
        return asked.session_id
    opening: list[str] = [asked.user_id]
    for message in asked.request.messages:
        opening.append(f"{message.role}:{message.content}")
        if message.role == "user":
            break
    return "chat_" + hashlib.sha256("\0".join(opening).encode()).hexdigest()[:32]


async def _spoken(steps: AsyncIterator[Any]) -> AsyncGenerator[ChatEvent, None]:
    started_s = time.perf_counter()
    first_ms: float | None = None
    async for step in steps:
        if isinstance(step, ResponseDelta):
            if first_ms is None:
                first_ms = round((time.perf_counter() - started_s) * 1000, 2)
            yield TextDelta(text=step.text)
        elif isinstance(step, TurnDone):
            yield Finished(
                model=ASSISTANT,
                provider=step.data.provider,
                reason="stop",
                usage=step.data.usage,
                first_token_ms=first_ms or 0.0,
                cost_usd=step.data.cost_usd,
            )


async def _replayed(kept: tuple[ChatEvent, ...]) -> AsyncGenerator[ChatEvent, None]:
    for event in kept:
        yield event
