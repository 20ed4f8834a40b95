"""The router: ordered fallback over the backends, under deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from sonia.config import EmbeddingModel, Local, ModelRouter
from sonia.errors import InvalidRequest, SoniaError, Unavailable, UpstreamTimeout
from sonia.router.backends.base import Backend, WeightsSource
from sonia.router.backends.gguf import model_files
from sonia.router.backends.local import LocalBackend
from sonia.router.backends.remote import RemoteBackend, remote_backends
from sonia.router.background import open_background
from sonia.router.embeddings import OpenEmbeddings, open_embeddings
from sonia.router.interface import (
    AnswerCut,
    ChatEvent,
    ChatRequest,
    Embeddings,
    Finished,
    ModelInfo,
    ModelNotFound,
    ProviderInfo,
    Route,
)
from sonia.router.markers import harmless_message, harmless_tool
from sonia.types import Message

DEFAULT_PROFILE = "chat_low_latency"


@asynccontextmanager
async def open_router(
    config: ModelRouter, embeddings: EmbeddingModel, weights: WeightsSource
) -> AsyncIterator[FallbackRouter]:
    """Enter at once; models are fetched and loaded behind. Leaving stops and frees them.

    Only local models that a profile names are loaded before somebody asks for them.
    """
    named = {model for models in config.profiles.values() for model in models}
    local_models = config.providers.local.models if config.providers.local.warm else ()
    at_once = {name for name in local_models if f"local/{name}" in named}
    found = await asyncio.to_thread(_own_models, config.providers.local)
    async with open_background() as background:
        vectors = open_embeddings(embeddings, config, weights, background)
        local = LocalBackend(config.providers.local, weights, background, at_once, found)
        yield FallbackRouter(config, local, remote_backends(config.providers), vectors)


class FallbackRouter:
    """Tries a profile's models in order until one begins to answer."""

    def __init__(
        self,
        config: ModelRouter,
        local: LocalBackend,
        remote: Sequence[RemoteBackend],
        embeddings: OpenEmbeddings,
    ) -> None:
        self._config = config
        self._local = local
        self._backends: dict[str, Backend] = {local.name: local}
        self._backends.update({backend.name: backend for backend in remote})
        self._embeddings = embeddings

    @property
    def embeddings(self) -> Embeddings:
        return self._embeddings

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        candidates = self._candidates(request.profile, request.model)
        if request.tools and request.json_schema is not None:
            raise InvalidRequest("Use either tools or json_schema, not both.")
        if not request.messages:
            raise InvalidRequest("messages must have at least one message.")
        _check_choice(request)
        request = msgspec.structs.replace(
            request,
            messages=tuple(map(harmless_message, request.messages)),
            tools=tuple(map(harmless_tool, request.tools)),
        )
        ends_s = asyncio.get_running_loop().time() + self._config.total_timeout_s
        async with AsyncExitStack() as stack:
            first, events = await self._first(stack, candidates, request)
            yield await stack.enter_async_context(aclosing(_all(first, events, ends_s)))

    async def count_tokens(self, messages: Sequence[Message], model: str | None = None) -> int:
        backend, name = self._find(self._candidates(DEFAULT_PROFILE, model)[0])
        return await backend.count_tokens(name, tuple(map(harmless_message, messages)))

    def context_tokens(self, model: str | None = None, profile: str = DEFAULT_PROFILE) -> int:
        backend, name = self._find(self._candidates(profile, model)[0])
        return backend.context_tokens(name)

    def route(self, profile: str = DEFAULT_PROFILE, model: str | None = None) -> Route:
        candidates = self._candidates(profile, model)
        states = {info.name: info for info in self.providers()}
        ready = [
            candidate
            for candidate in candidates
            if states[candidate.partition("/")[0]].state == "ready"
        ]
        chosen = ready[0] if ready else candidates[0]
        why = "the request names it" if model else f"profile {profile}"
        if chosen != candidates[0]:
            why += f", {candidates[0]} is not ready"
        elif not ready:
            why += ", but it is not ready yet"
        return Route(
            profile=profile,
            model=chosen,
            provider=chosen.partition("/")[0],
            candidates=candidates,
            reason=why,
        )

    def providers(self) -> tuple[ProviderInfo, ...]:
        return tuple(backend.info() for backend in self._backends.values())

    def models(self) -> tuple[ModelInfo, ...]:
        chat = tuple(model for backend in self._backends.values() for model in backend.models())
        return (*chat, self._embeddings.model)

    async def ready(self, model: str | None = None) -> None:
        """Return when the model that `chat` tries first is loaded; at once for remote ones."""
        backend, name = self._find(self._candidates(DEFAULT_PROFILE, model)[0])
        if backend is self._local:
            await self._local.ready(name)

    async def probe(self) -> dict[str, object]:
        """For `/status`. Raises `Unavailable` when no provider can serve or come to serve."""
        providers = self.providers()
        if not any(info.state in ("ready", "warming") for info in providers):
            reasons = "; ".join(f"{info.name}: {info.reason}" for info in providers if info.reason)
            raise Unavailable(f"No model can answer. {reasons}")
        return {
            "providers": {info.name: info.state for info in providers},
            "reasons": {info.name: info.reason for info in providers if info.reason},
            "embeddings": self._embeddings.state,
        }

    def _candidates(self, profile: str, model: str | None) -> tuple[str, ...]:
        if model is not None:
            self._find(model)
            return (model,)
        candidates = self._config.profiles.get(profile)
        if not candidates:
            known = ", ".join(self._config.profiles)
            raise InvalidRequest(
                f"No profile {profile!r} with models. There are: {known}.",
                field="profile",
                known=list(self._config.profiles),
            )
        return candidates

    def _find(self, model: str) -> tuple[Backend, str]:
        provider, _, name = model.partition("/")
        backend = self._backends.get(provider)
        if backend is None or not name or not backend.serves(name):
            known = [info.id for info in self.models() if not info.embedding]
            raise ModelNotFound(
                f"No model {model!r}. There are: {', '.join(known)}.", model=model, known=known
            )
        return backend, name

    async def _first(
        self, stack: AsyncExitStack, candidates: Sequence[str], request: ChatRequest
    ) -> tuple[ChatEvent, AsyncIterator[ChatEvent]]:
        """Enter the first candidate that gives an event; the others are left again."""
        failure: SoniaError | None = None
        for candidate in candidates:
            backend, name = self._find(candidate)
            async with AsyncExitStack() as attempt:
                try:
                    async with asyncio.timeout(self._config.first_token_timeout_s):
                        events = await attempt.enter_async_context(backend.stream(name, request))
                        first = await anext(events)
                except TimeoutError:
                    limit_s = self._config.first_token_timeout_s
                    failure = UpstreamTimeout(f"{candidate} gave no answer within {limit_s:g} s.")
                except StopAsyncIteration:
                    failure = AnswerCut(f"{candidate} ended its answer before it began.")
                except InvalidRequest:
                    raise
                except SoniaError as error:
                    failure = error
                else:
                    await stack.enter_async_context(attempt.pop_all())
                    return first, events
        raise failure or Unavailable("There is no candidate to try.")


def _own_models(config: Local) -> dict[str, Path]:
    return dict(model_files(Path(config.folder))) if config.folder else {}


def _check_choice(request: ChatRequest) -> None:
    """Raise `InvalidRequest` when `tool_choice` asks for what is not offered."""
    choice, names = request.tool_choice, [tool.name for tool in request.tools]
    if choice in ("auto", "none") or choice in names or (choice == "required" and names):
        return
    offered = f"Offered are: {', '.join(names)}." if names else "No tools are offered."
    raise InvalidRequest(f"tool_choice is {choice!r}. {offered}", field="tool_choice")


async def _all(
    first: ChatEvent, events: AsyncIterator[ChatEvent], ends_s: float
) -> AsyncGenerator[ChatEvent, None]:
    """Hand the events on until `Finished`. Raises `UpstreamTimeout` at the deadline."""
    event = first
    while not isinstance(event, Finished):
        yield event
        try:
            async with asyncio.timeout_at(ends_s):
                event = await anext(events)
        except TimeoutError as error:
            raise UpstreamTimeout("The answer took longer than total_timeout_s allows.") from error
        except StopAsyncIteration as error:
            raise AnswerCut("The answer ended without saying why.") from error
    yield event
