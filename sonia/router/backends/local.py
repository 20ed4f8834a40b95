"""Models in this process, on llama.cpp."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import msgspec

from sonia.config import Local
from sonia.errors import InvalidRequest
from sonia.router.backends.base import WeightsSource, pull_told
from sonia.router.backends.facts import FREE, ModelFacts
from sonia.router.backends.local_answer import answer_events
from sonia.router.backends.local_model import LocalModel, ModelSource
from sonia.router.backends.room import MIB, Room
from sonia.router.backends.toolpick import speaking_prompt
from sonia.router.background import Background
from sonia.router.interface import ChatEvent, ChatRequest, ModelInfo, ProviderInfo
from sonia.types import Message

SETTLED_STAGES = ("waiting", "ready", "failed")
MEMORY_SHARE = 0.75


class CatalogueModel:
    """A model whose weights are pinned, and fetched when missing."""

    def __init__(self, name: str, weights: WeightsSource) -> None:
        self._name = name
        self._weights = weights

    async def file(self) -> Path:
        files = await self._weights.ensure(self._name)
        return next(path for name, path in files.items() if name.endswith(".gguf"))

    def fetching(self) -> bool:
        return self._weights.progress(self._name).stage not in SETTLED_STAGES

    def told(self) -> str:
        return pull_told(self._weights.progress(self._name))


class FolderModel:
    """A GGUF file that the user put there."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def file(self) -> Path:
        return self._path

    def fetching(self) -> bool:
        return False

    def told(self) -> str:
        return "loading"


class LocalBackend:
    """The configured local models, each loaded when a profile names it or somebody asks.

    `found` are the user's own files, by name; a configured name wins over a file's.
    """

    name = "local"
    prefills = True

    def __init__(
        self,
        config: Local,
        weights: WeightsSource,
        background: Background,
        at_once: set[str],
        found: Mapping[str, Path] | None = None,
    ) -> None:
        self._config = config
        self._background = background
        self._room = Room(config.memory_budget_mb * MIB or _most_bytes())
        sources: dict[str, ModelSource] = {
            name: FolderModel(path) for name, path in (found or {}).items()
        }
        sources.update({name: CatalogueModel(name, weights) for name in config.models})
        self._models = {
            name: LocalModel(name, config, source, self._room, stays=name in at_once)
            for name, source in sources.items()
        }
        self._running: set[str] = set()
        for name in sources:
            if name in at_once:
                self.load(name)

    def load(self, model: str) -> LocalModel:
        """Begin loading unless it is loaded or under way."""
        local = self._models[model]
        if model not in self._running:
            self._running.add(model)
            local.turn("loading")
            self._background.start(self._run(local), name=f"local/{model}")
        return local

    async def ready(self, model: str) -> None:
        """Return when the model can answer. Raises what keeps it from being loaded."""
        await self.load(model).settled()

    def info(self) -> ProviderInfo:
        wanted = [self._models[name] for name in self._models if name in self._running]
        waiting = {model.name: why for model in wanted if (why := model.waiting_for())}
        failed = {
            model.name: model.failed.message for model in self._models.values() if model.failed
        }
        reason = "; ".join(f"{name}: {why}" for name, why in {**failed, **waiting}.items())
        usable = any(model.state == "loaded" for model in wanted)
        return ProviderInfo(
            name=self.name,
            state="down" if failed and not usable else "warming" if waiting else "ready",
            models=tuple(f"local/{name}" for name in self._models),
            reason=reason or (None if wanted else "loads when first asked"),
        )

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(
            ModelInfo(
                id=f"local/{name}",
                provider=self.name,
                context_tokens=model.context_tokens,
                input_usd=0.0,
                output_usd=0.0,
                device=model.device,
            )
            for name, model in self._models.items()
        )

    def serves(self, model: str) -> bool:
        return model in self._models

    def context_tokens(self, model: str) -> int:
        return self._models[model].context_tokens

    def facts(self, model: str) -> ModelFacts:
        return ModelFacts(context_tokens=self.context_tokens(model), vision=False, price=FREE)

    async def learn(self, model: str) -> None:
        """Its file says all."""

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        async with self.load(model).using() as engine:
            return await engine.count_tokens(speaking_prompt(messages))

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        if request.top_logprobs is not None:
            raise InvalidRequest("Local models tell no logprobs. Leave it out.", field="logprobs")
        if request.json_object and request.json_schema is None:
            request = msgspec.structs.replace(request, json_schema={"type": "object"})
        started_s = time.perf_counter()
        local = self.load(model)
        async with local.answering(), aclosing(answer_events(local, request, started_s)) as events:
            yield events

    async def _run(self, model: LocalModel) -> None:
        try:
            await model.run()
            while model.state == "leaving" and model.busy:  # asked for while it left
                model.turn("loading")
                await model.run()
        finally:
            self._running.discard(model.name)
            if model.state != "failed":
                model.turn("gone")


def _most_bytes() -> int:
    """What local models may take together: a share of this machine's memory."""
    import psutil

    return int(psutil.virtual_memory().total * MEMORY_SHARE)
