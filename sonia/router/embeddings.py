"""Text to vectors: MiniLM in this process, a model of an Ollama server, or one of a provider."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sonia.config import EmbeddingModel, ModelRouter, Ollama, Paid, Secret
from sonia.errors import ConfigurationError, SoniaError, UpstreamError
from sonia.router.backends.base import CHARS_PER_TOKEN, WeightsSource, pull_told
from sonia.router.backends.facts import ModelFacts, known_facts
from sonia.router.backends.minilm import MAX_TOKENS, Minilm
from sonia.router.backends.minilm_build import DIMENSIONS
from sonia.router.backends.remote_embedding import EmbeddingProvider
from sonia.router.backends.wire import is_loopback
from sonia.router.background import Background
from sonia.router.interface import Embeddings, ModelInfo, ModelNotReady

RETRY_S = 60.0
AT_ONCE = 2  # texts: a question waits for no more, and they take less time than in tens

T = TypeVar("T")
Ask = Callable[[Sequence[str]], Awaitable[list[list[float]]]]


class OpenEmbeddings(Embeddings, Protocol):
    """What the router holds: embeddings that can say how they are."""

    @property
    def model(self) -> ModelInfo:
        """As listed among the models."""
        ...

    @property
    def state(self) -> str:
        """`ready`, or what is being waited for."""
        ...


def open_embeddings(
    config: EmbeddingModel,
    router: ModelRouter,
    weights: WeightsSource,
    background: Background,
) -> OpenEmbeddings:
    """Answer at once; the weights are fetched and loaded behind.

    Raises `ConfigurationError` for Ollama without a base_url.
    """
    if config.provider == "local":
        vectors = LocalEmbeddings(config.model, weights)
        background.start(vectors.run(), name=f"local/{config.model}")
        return vectors
    return RemoteEmbeddings(config.provider, config.model, _asked(config, router))


def _asked(config: EmbeddingModel, router: ModelRouter) -> Ask:
    """Who is asked for vectors elsewhere."""
    known = getattr(router.providers, config.provider, None)
    base_url = config.base_url or (known.base_url if isinstance(known, Ollama | Paid) else "")
    if config.provider == "ollama" and not base_url:
        raise ConfigurationError(
            "services.memory_engine.embeddings.provider is ollama, so "
            "services.model_router.providers.ollama.base_url must be set."
        )
    own_key = known.api_key if isinstance(known, Paid) else Secret("")
    outside = router.offline and not (base_url and is_loopback(base_url))
    return EmbeddingProvider(
        config.provider,
        config.model,
        base_url,
        config.api_key if config.api_key else own_key,
        "services.model_router.offline is true" if outside else "",
    ).embed


def model_of(space: str) -> EmbeddingModel | None:
    """The configuration that made vectors of this space, as far as its name tells it."""
    provider, slash, model = space.partition("/")
    if slash:
        return EmbeddingModel(provider=provider, model=model)
    default = EmbeddingModel()
    return default if space == default.model else None


class LocalEmbeddings:
    """MiniLM on one thread of its own."""

    def __init__(self, name: str, weights: WeightsSource) -> None:
        self._name = name
        self._weights = weights
        self._encoder: Minilm | None = None
        self._failed: SoniaError | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="embeddings")
        self.loaded = asyncio.Event()

    @property
    def space(self) -> str:
        return self._name

    @property
    def dimensions(self) -> int:
        return DIMENSIONS

    @property
    def model(self) -> ModelInfo:
        return ModelInfo(
            id=f"local/{self._name}", provider="local", context_tokens=MAX_TOKENS, embedding=True
        )

    @property
    def state(self) -> str:
        if self._encoder:
            return "ready"
        return (
            self._failed.message if self._failed else pull_told(self._weights.progress(self._name))
        )

    async def run(self) -> None:
        """Fetch, load and hold the encoder until cancelled; retry what failed."""
        try:
            while True:
                try:
                    await self._load()
                    await asyncio.Event().wait()
                except SoniaError as error:
                    self._failed = error
                await asyncio.sleep(RETRY_S)
        finally:
            self._encoder = None
            self._pool.shutdown(wait=False, cancel_futures=True)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Of many texts a few at a time, those alike in length together: others get in between."""
        made = np.empty((len(texts), DIMENSIONS), np.float32)
        by_length = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        for start in range(0, len(by_length), AT_ONCE):
            some = by_length[start : start + AT_ONCE]
            made[some] = await self._on_thread(
                self._loaded().encode, [texts[place] for place in some]
            )
        return made

    async def count_tokens(self, texts: Sequence[str]) -> int:
        return await self._on_thread(self._loaded().count, texts)

    def _loaded(self) -> Minilm:
        if self._encoder is None:
            raise ModelNotReady(
                f"The embedding model {self._name} is not ready: {self.state}.", model=self._name
            )
        return self._encoder

    async def _on_thread(self, work: Callable[[tuple[str, ...]], T], texts: Sequence[str]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, tuple(texts))

    async def _load(self) -> None:
        files = await self._weights.ensure(self._name)
        self._encoder = await asyncio.get_running_loop().run_in_executor(
            self._pool, Minilm, files["model.safetensors"], files["tokenizer.json"]
        )
        self._failed = None
        self.loaded.set()


class RemoteEmbeddings:
    """A model elsewhere; its dimensions are known after the first `embed`.

    `ask` gives one vector for each text, as the provider makes them.
    """

    state = "ready"

    def __init__(self, provider: str, name: str, ask: Ask) -> None:
        self._provider = provider
        self._name = name
        self._ask = ask
        self._dimensions: int | None = None

    @property
    def space(self) -> str:
        return f"{self._provider}/{self._name}"

    @property
    def dimensions(self) -> int:
        """Raises `ModelNotReady` before the first `embed` of a text."""
        if self._dimensions is None:
            raise ModelNotReady(f"The dimensions of {self.space} are not known yet.")
        return self._dimensions

    @property
    def model(self) -> ModelInfo:
        return ModelInfo(
            id=self.space,
            provider=self._provider,
            context_tokens=(known_facts(self.space) or ModelFacts()).context_tokens,
            embedding=True,
        )

    async def count_tokens(self, texts: Sequence[str]) -> int:
        return sum(max(1, int(len(text) / CHARS_PER_TOKEN)) for text in texts)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self._dimensions or 0), np.float32)
        rows = np.asarray(await self._ask(texts), np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros((0, 1))
        if rows.shape[0] != len(texts) or not norms.all():
            raise UpstreamError(f"{self.space} answered without a vector for every text.")
        if self._dimensions not in (None, rows.shape[1]):
            raise UpstreamError(f"{self.space} changed its number of dimensions.")
        self._dimensions = rows.shape[1]
        return (rows / norms).astype(np.float32)
