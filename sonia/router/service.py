"""The router: ordered fallback over the backends, under deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
from pathlib import Path

import msgspec

from sonia.config import EmbeddingModel, Local, ModelRouter
from sonia.db import Database
from sonia.errors import ConfigurationError, InvalidRequest, NotFound, Unavailable
from sonia.events import Forgotten
from sonia.log import tell
from sonia.router.attempts import Answering, Candidate, Patience
from sonia.router.backends.base import Backend, WeightsSource
from sonia.router.backends.direct import DirectBackend
from sonia.router.backends.facts import load_facts
from sonia.router.backends.gguf import model_files
from sonia.router.backends.local import LocalBackend
from sonia.router.backends.remotes import remote_backends
from sonia.router.backends.wire import open_wire
from sonia.router.background import Background, open_background
from sonia.router.breaker import Breaker
from sonia.router.budgets import Books, open_books
from sonia.router.embeddings import OpenEmbeddings, model_of, open_embeddings
from sonia.router.interface import (
    BreakerInfo,
    BudgetInfo,
    BudgetScope,
    ChatEvent,
    ChatRequest,
    ContextExceeded,
    Embeddings,
    ModelInfo,
    ModelNotFound,
    ProviderInfo,
    Route,
    UsageRow,
)
from sonia.router.markers import harmless_message, harmless_tool
from sonia.types import Message

DEFAULT_PROFILE = "chat_low_latency"
# Those that are not configured are answered as the default one is.
PROFILES = (DEFAULT_PROFILE, "reasoning_deep", "vision", "tools", "memory_ops")
LEAST_CHARS_PER_TOKEN = 4  # a prompt is passed over only where it surely doesn't fit


@asynccontextmanager
async def open_router(
    config: ModelRouter,
    embeddings: EmbeddingModel,
    weights: WeightsSource,
    db: Database | None = None,
) -> AsyncIterator[FallbackRouter]:
    """Enter at once; models are fetched and loaded behind. Leaving stops and frees them.

    Only local models that a profile names are loaded before somebody asks for them.
    """
    named = {model for models in config.profiles.values() for model in models}
    local_models = config.providers.local.models if config.providers.local.warm else ()
    at_once = {name for name in local_models if f"local/{name}" in named}
    found = await asyncio.to_thread(_own_models, config.providers.local)
    await asyncio.to_thread(load_facts)
    async with open_wire(offline=config.offline) as wire, open_background() as background:
        vectors = open_embeddings(embeddings, config, weights, background)
        local = LocalBackend(config.providers.local, weights, background, at_once, found)
        remote = remote_backends(config.providers, wire, offline=config.offline)
        earlier = cache(partial(_earlier, router=config, weights=weights, background=background))
        async with open_books(config.budgets, db, background) as books:
            yield FallbackRouter(config, local, remote, vectors, books, earlier=earlier)


def _earlier(
    space: str, router: ModelRouter, weights: WeightsSource, background: Background
) -> OpenEmbeddings | None:
    model = model_of(space)
    try:
        return None if model is None else open_embeddings(model, router, weights, background)
    except ConfigurationError:
        return None


class FallbackRouter:
    """Tries a profile's models in order until one begins to answer."""

    def __init__(
        self,
        config: ModelRouter,
        local: LocalBackend,
        remote: Sequence[Backend],
        embeddings: OpenEmbeddings,
        books: Books | None = None,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
        earlier: Callable[[str], OpenEmbeddings | None] = lambda _: None,
    ) -> None:
        self._earlier = earlier
        self._config = config
        self._books = books or Books(config.budgets, None)
        self._patience = Patience(
            first_token_s=config.first_token_timeout_s,
            total_s=config.total_timeout_s,
            retries=config.retries,
            pause=pause,
        )
        self._breakers = {
            backend.name: Breaker(
                backend.name, failures=config.breaker_failures, open_s=config.breaker_open_s
            )
            for backend in remote
        }
        self._local = local
        self._backends: dict[str, Backend] = {local.name: local}
        self._backends.update({backend.name: backend for backend in remote})
        self._embeddings = embeddings

    @property
    def embeddings(self) -> Embeddings:
        return self._embeddings

    def embeddings_of(self, space: str) -> Embeddings | None:
        return self._embeddings if space == self._embeddings.space else self._earlier(space)

    @asynccontextmanager
    async def chat(self, request: ChatRequest) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        candidates = self._candidates(request.profile, request.model)
        _check(request)
        request = msgspec.structs.replace(
            request,
            messages=tuple(map(harmless_message, request.messages)),
            tools=tuple(map(harmless_tool, request.tools)),
        )
        suited = await self._suited(candidates, request)
        answering = Answering(request, suited, self._patience, self._books, self._spare)
        try:
            async with aclosing(answering.events()) as events:
                first = await anext(events)
                async with aclosing(_all(first, events)) as every:
                    yield every
        finally:
            _tell(request, candidates, answering)

    async def count_tokens(self, messages: Sequence[Message], model: str | None = None) -> int:
        backend, name = self._find(self._candidates(DEFAULT_PROFILE, model)[0])
        return await backend.count_tokens(name, tuple(map(harmless_message, messages)))

    def context_tokens(self, model: str | None = None, profile: str = DEFAULT_PROFILE) -> int:
        backend, name = self._find(self._candidates(profile, model)[0])
        return backend.context_tokens(name)

    def route(
        self,
        profile: str = DEFAULT_PROFILE,
        model: str | None = None,
        *,
        tokens: int = 0,
        images: bool = False,
    ) -> Route:
        candidates = self._candidates(profile, model)
        over: dict[str, str] = {}
        for candidate in map(self._candidate, candidates):
            if why := self._unfit(candidate, tokens, images) or self._away(candidate):
                over[candidate.id] = why
        chosen = next((one for one in candidates if one not in over), candidates[0])
        why = "the request names it" if model else f"profile {profile}"
        if profile not in self._config.profiles and not model:
            why += f", which is not configured: as {DEFAULT_PROFILE}"
        if chosen != candidates[0]:
            why += f", {candidates[0]} is passed over: {over[candidates[0]]}"
        elif over.get(chosen):
            why += f", but {over[chosen]}"
        return Route(
            profile=profile,
            model=chosen,
            provider=chosen.partition("/")[0],
            candidates=candidates,
            reason=why,
            passed_over=over,
        )

    async def usage(self, since: str, user_id: str | None = None) -> tuple[UsageRow, ...]:
        await self._books.flush()
        return await self._books.used(since, user_id)

    def budgets(self) -> tuple[BudgetInfo, ...]:
        return self._books.budgets()

    async def allow(self, scope: BudgetScope, key: str, *, tokens: int, usd: float) -> BudgetInfo:
        return await self._books.allow(scope, key, tokens, usd)

    async def remote_models(self, provider: str) -> tuple[str, ...]:
        backend = self._backends.get(provider)
        if not isinstance(backend, DirectBackend):
            known = [b.name for b in self._backends.values() if isinstance(b, DirectBackend)]
            raise NotFound(f"{provider!r} lists no models. Ask one of: {', '.join(known)}.")
        return tuple(f"{provider}/{name}" for name in await backend.remote_models())

    async def forget(self, fact: Forgotten) -> None:
        """Keep the sums of usage, not whose they were."""
        await self._books.forget(fact.user_ids)

    def breakers(self) -> tuple[BreakerInfo, ...]:
        return tuple(breaker.info() for breaker in self._breakers.values())

    def reset_breaker(self, name: str) -> BreakerInfo:
        if name not in self._breakers:
            known = list(self._breakers)
            raise NotFound(f"No breaker {name!r}. There are: {', '.join(known)}.", known=known)
        self._breakers[name].reset()
        return self._breakers[name].info()

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
        if candidates is None and profile in PROFILES:
            candidates = self._config.profiles.get(DEFAULT_PROFILE)
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

    def _spare(self) -> Candidate | None:
        """A local model, for when the budget is gone and the profile has none."""
        models = self._local.models()
        return self._candidate(models[0].id) if models else None

    def _candidate(self, model: str) -> Candidate:
        backend, name = self._find(model)
        return Candidate(model, backend, name, self._breakers.get(backend.name))

    async def _suited(self, models: Sequence[str], request: ChatRequest) -> list[Candidate]:
        """Those that can see the pictures and hold the prompt. Raises when none can."""
        tokens = sum(len(message.content) for message in request.messages) // LEAST_CHARS_PER_TOKEN
        images = any(message.images for message in request.messages)
        candidates, whys = [self._candidate(model) for model in models], {}
        suited = []
        for candidate in candidates:
            await candidate.backend.learn(candidate.name)
            if why := self._unfit(candidate, tokens, images):
                whys[candidate.id] = why
            else:
                suited.append(candidate)
        if not suited:
            told = "; ".join(f"{model} {why}" for model, why in whys.items())
            message = f"No model of these can take this: {told}."
            if images:
                raise InvalidRequest(message, passed_over=whys)
            most = max(one.backend.facts(one.name).context_tokens for one in candidates)
            raise ContextExceeded(
                message, passed_over=whys, prompt_tokens=tokens, context_tokens=most
            )
        return suited

    def _unfit(self, candidate: Candidate, tokens: int, images: bool) -> str | None:
        """Why this model can't take such a request, whatever its state."""
        facts = candidate.backend.facts(candidate.name)
        if images and facts.vision is False:
            return "sees no pictures"
        if tokens > facts.context_tokens:
            return f"holds {facts.context_tokens} tokens, and this is about {tokens}"
        return None

    def _away(self, candidate: Candidate) -> str | None:
        info = candidate.backend.info()
        if info.state != "ready":
            return info.reason or info.state
        state = candidate.breaker.state if candidate.breaker else "closed"
        return f"{info.name} failed repeatedly and is left alone" if state == "open" else None


def _own_models(config: Local) -> dict[str, Path]:
    return dict(model_files(Path(config.folder))) if config.folder else {}


def _check(request: ChatRequest) -> None:
    """Raise `InvalidRequest` for what contradicts itself."""
    if not request.messages:
        raise InvalidRequest("messages must have at least one message.")
    choice, names = request.tool_choice, [tool.name for tool in request.tools]
    if choice in ("auto", "none") or choice in names or (choice == "required" and names):
        return
    offered = f"Offered are: {', '.join(names)}." if names else "No tools are offered."
    raise InvalidRequest(f"tool_choice is {choice!r}. {offered}", field="tool_choice")


async def _all(
    first: ChatEvent, events: AsyncIterator[ChatEvent]
) -> AsyncGenerator[ChatEvent, None]:
    yield first
    async for event in events:
        yield event


def _tell(request: ChatRequest, candidates: Sequence[str], answering: Answering) -> None:
    """The audit line of one decision."""
    tell(
        "model-router",
        "routed",
        profile=request.profile,
        asked=request.model,
        candidates=candidates,
        model=answering.model or None,
        failed=[f"{trial.model}: {trial.error}: {trial.message}" for trial in answering.trials],
    )
