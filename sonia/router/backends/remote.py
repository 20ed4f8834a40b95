"""Providers whose dialect only litellm knows.

litellm takes seconds and much memory to import, so it is imported on the first call, in a
thread, with everything that would phone home turned off. No retries of its own: the router
falls back instead.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from sonia.config import Custom, Secret
from sonia.errors import InvalidRequest
from sonia.router.backends.base import estimated_tokens, load_validation
from sonia.router.backends.facts import ModelFacts, known_facts
from sonia.router.backends.openai_dialect import (
    SAMPLING,
    wire_chosen,
    wire_format,
    wire_message,
    wire_tools,
)
from sonia.router.backends.refusals import NotConfigured
from sonia.router.backends.remote_errors import Seam
from sonia.router.backends.remote_stream import answer_events
from sonia.router.interface import ChatEvent, ChatRequest, ModelInfo, ProviderInfo
from sonia.types import Message

_LITELLM_ENVIRONMENT = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
    "LITELLM_LOG": "ERROR",
    "LITELLM_MODE": "PRODUCTION",
}
_importing = asyncio.Lock()


class RemoteBackend:
    """One provider. `dialect` is litellm's name for how it speaks."""

    prefills = False

    def __init__(
        self,
        name: str,
        dialect: str,
        models: Sequence[str],
        *,
        base_url: str = "",
        api_key: Secret = Secret(""),  # noqa: B008  immutable
        missing: str = "",
        key_variable: str = "",
    ) -> None:
        self.name = name
        self._dialect = dialect
        self._models = tuple(model.removeprefix(f"{name}/") for model in models)
        self._base_url = base_url
        self._api_key = api_key
        self._missing = missing
        self._context_tokens = 0
        self._vision = False
        self._seam = Seam(name, base_url, api_key, key_variable)

    @classmethod
    def foreign(cls, name: str, config: Custom, missing: str = "") -> RemoteBackend:
        """A provider that litellm calls `name`."""
        backend = cls(
            name,
            name,
            config.models,
            base_url=config.base_url,
            api_key=config.api_key,
            missing=missing,
            key_variable=f"services.model_router.providers.custom.{name}.api_key",
        )
        if config.context_tokens:
            backend._context_tokens = config.context_tokens
        backend._vision = config.vision
        return backend

    def info(self) -> ProviderInfo:
        return ProviderInfo(
            name=self.name,
            state="unconfigured" if self._missing else "ready",
            models=tuple(f"{self.name}/{model}" for model in self._models),
            reason=self._missing or None,
        )

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(
            ModelInfo(
                id=f"{self.name}/{model}",
                provider=self.name,
                context_tokens=self.context_tokens(model),
            )
            for model in self._models
        )

    def serves(self, model: str) -> bool:
        """Any name: providers have more models than a configuration lists."""
        return True

    def context_tokens(self, model: str) -> int:
        return self.facts(model).context_tokens

    def facts(self, model: str) -> ModelFacts:
        known = known_facts(f"{self.name}/{model}") or ModelFacts(vision=self._vision)
        if self._context_tokens:
            return msgspec.structs.replace(known, context_tokens=self._context_tokens)
        return known

    async def learn(self, model: str) -> None:
        """litellm knows what it knows."""

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        return estimated_tokens(messages)

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self._check()
        started_s = time.perf_counter()
        litellm = await load_litellm()
        with self._seam.translated():
            wrapper = await litellm.acompletion(**self._arguments(model, request))
        events = answer_events(
            wrapper, request, self._seam, model=f"{self.name}/{model}", started_s=started_s
        )
        try:
            async with aclosing(events):
                yield events
        finally:
            with self._seam.translated():
                await wrapper.aclose()

    def _check(self) -> None:
        if self._missing:
            raise NotConfigured(f"{self.name} is not configured: {self._missing}.", field=self.name)

    def _arguments(self, model: str, request: ChatRequest) -> dict[str, Any]:
        arguments: dict[str, Any] = {
            "model": f"{self._dialect}/{model}",
            "messages": [wire_message(message) for message in request.messages],
            "stream": True,
            "stream_options": {"include_usage": True},
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            **wire_chosen(request, (*SAMPLING, "seed")),
            "stop": list(request.stop) or None,
            "response_format": wire_format(request),
            "num_retries": 0,
            "max_retries": 0,
            "api_base": self._base_url or None,
            "api_key": self._api_key.reveal() or None,
            "drop_params": True,
            "_skip_mcp_handler": True,  # would import a package we don't have
        }
        if request.tools:
            arguments |= wire_tools(request)
        if request.top_logprobs is not None:
            raise InvalidRequest(f"{self.name} tells no logprobs here.", field="logprobs")
        return {key: value for key, value in arguments.items() if value is not None}


async def load_litellm() -> Any:
    """The library, silent. Takes seconds the first time, on a thread."""
    async with _importing:
        return await asyncio.to_thread(_import)


def _import() -> Any:
    for name, value in _LITELLM_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    import litellm

    load_validation()
    litellm.telemetry = False
    litellm.disable_hf_tokenizer_download = True  # to count a llama's tokens, on the event loop
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.callbacks = []
    return litellm
