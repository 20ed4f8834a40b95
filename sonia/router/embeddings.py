"""Text to vectors: MiniLM in this process, or a model of an Ollama server."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sonia.config import EmbeddingModel, ModelRouter
from sonia.errors import ConfigurationError, SoniaError, UpstreamError
from sonia.router.backends.base import WeightsSource, pull_told
from sonia.router.backends.minilm import MAX_TOKENS, Minilm
from sonia.router.backends.minilm_build import DIMENSIONS
from sonia.router.backends.remote import RemoteBackend
from sonia.router.background import Background
from sonia.router.interface import Embeddings, ModelInfo, ModelNotReady

RETRY_S = 60.0


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
    if config.provider == "ollama":
        if not router.providers.ollama.base_url:
            raise ConfigurationError(
                "services.memory_engine.embeddings.provider is ollama, so "
                "services.model_router.providers.ollama.base_url must be set."
            )
        return OllamaEmbeddings(config.model, RemoteBackend.ollama(router.providers.ollama))
    vectors = LocalEmbeddings(config.model, weights)
    background.start(vectors.run(), name=f"local/{config.model}")
    return vectors


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
        encoder = self._encoder
        if encoder is None:
            raise ModelNotReady(
                f"The embedding model {self._name} is not ready: {self.state}.", model=self._name
            )
        return await asyncio.get_running_loop().run_in_executor(
            self._pool, encoder.encode, tuple(texts)
        )

    async def _load(self) -> None:
        files = await self._weights.ensure(self._name)
        self._encoder = await asyncio.get_running_loop().run_in_executor(
            self._pool, Minilm, files["model.safetensors"], files["tokenizer.json"]
        )
        self._failed = None
        self.loaded.set()


class OllamaEmbeddings:
    """A model of an Ollama server; its dimensions are known after the first `embed`."""

    state = "ready"

    def __init__(self, name: str, backend: RemoteBackend) -> None:
        self._name = name
        self._backend = backend
        self._dimensions: int | None = None

    @property
    def space(self) -> str:
        return f"ollama/{self._name}"

    @property
    def dimensions(self) -> int:
        """Raises `ModelNotReady` before the first `embed` of a text."""
        if self._dimensions is None:
            raise ModelNotReady(f"The dimensions of ollama/{self._name} are not known yet.")
        return self._dimensions

    @property
    def model(self) -> ModelInfo:
        tokens = self._backend.context_tokens(self._name)
        return ModelInfo(id=self.space, provider="ollama", context_tokens=tokens, embedding=True)

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.empty((0, self._dimensions or 0), np.float32)
        rows = np.asarray(await self._backend.embed(self._name, texts), np.float32)
        norms = np.linalg.norm(rows, axis=1, keepdims=True) if rows.ndim == 2 else np.zeros((0, 1))
        if rows.shape[0] != len(texts) or not norms.all():
            raise UpstreamError(f"ollama/{self._name} answered without a vector for every text.")
        if self._dimensions not in (None, rows.shape[1]):
            raise UpstreamError(f"ollama/{self._name} changed its number of dimensions.")
        self._dimensions = rows.shape[1]
        return (rows / norms).astype(np.float32)
