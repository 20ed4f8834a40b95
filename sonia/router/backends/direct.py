"""A provider outside that is spoken to directly, without a library between."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any

import msgspec

from sonia.config import Secret
from sonia.errors import SoniaError
from sonia.router.backends.answers import Answer
from sonia.router.backends.base import estimated_tokens, load_validation
from sonia.router.backends.dialect import Dialect, Reader
from sonia.router.backends.facts import FREE, ModelFacts, Price, known_facts
from sonia.router.backends.http1 import Answered
from sonia.router.backends.refusals import NotConfigured, Refusals
from sonia.router.backends.wire import Wire
from sonia.router.interface import ChatEvent, ChatRequest, Finished, ModelInfo, ProviderInfo
from sonia.types import Message

MOST_BYTES = 64 * 1024 * 1024
MOST_ERROR_BYTES = 64 * 1024
LEARN_S = 5.0
MOST_FACTS = 1024  # models may have any name


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """Who is spoken to, and how. `missing` says what keeps it from being used.

    `lists` is what can be asked about models: OpenAI's list, or Ollama's description of one.
    `facts` are the configuration's, and go first.
    """

    name: str
    dialect: Dialect
    base_url: str
    models: tuple[str, ...] = ()
    api_key: Secret = Secret("")
    key_variable: str = ""
    missing: str = ""
    free: bool = False
    lists: str = ""
    facts: ModelFacts | None = None


class DirectBackend:
    """One provider."""

    def __init__(self, provider: Provider, wire: Wire) -> None:
        self.name = provider.name
        self.prefills = provider.dialect.prefills
        self._provider = provider
        self._wire = wire
        self._models = tuple(m.removeprefix(f"{self.name}/") for m in provider.models)
        where = provider.base_url or provider.name
        self._refusals = Refusals(self.name, where, provider.api_key, provider.key_variable)
        self._path = provider.dialect.path(provider.base_url)
        self._headers = provider.dialect.headers(provider.api_key.reveal())
        self._learned: dict[str, ModelFacts] = {}
        self._facts: dict[str, ModelFacts] = {}  # as last put together
        self._asked: set[str] = set()

    def info(self) -> ProviderInfo:
        missing = self._provider.missing
        return ProviderInfo(
            name=self.name,
            state="unconfigured" if missing else "ready",
            models=tuple(f"{self.name}/{model}" for model in self._models),
            reason=missing or None,
        )

    def models(self) -> tuple[ModelInfo, ...]:
        return tuple(self._described(model) for model in self._models)

    def serves(self, model: str) -> bool:
        """Any name: providers have more models than a configuration lists."""
        return True

    def facts(self, model: str) -> ModelFacts:
        if known_already := self._facts.get(model):
            return known_already
        provider = self._provider
        found = provider.facts or self._learned.get(model) or known_facts(f"{self.name}/{model}")
        facts = found or ModelFacts()
        if facts.price is None:
            known = known_facts(f"{self.name}/{model}")
            price = FREE if provider.free else known.price if known else None
            facts = msgspec.structs.replace(facts, price=price)
        if len(self._facts) < MOST_FACTS:
            self._facts[model] = facts
        return facts

    def context_tokens(self, model: str) -> int:
        return self.facts(model).context_tokens

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        return estimated_tokens(messages)

    async def learn(self, model: str) -> None:
        """Ask the provider once what the model is; a provider that can't say is left alone."""
        provider = self._provider
        if model in self._asked or not provider.lists or provider.missing:
            return
        if known_facts(f"{self.name}/{model}"):
            return
        self._asked.add(model)
        try:
            async with asyncio.timeout(LEARN_S):
                await self._learn(model)
        except (TimeoutError, SoniaError, msgspec.DecodeError, msgspec.ValidationError):
            return  # the call itself will say what is wrong
        finally:
            self._facts.clear()

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        if missing := self._provider.missing:
            raise NotConfigured(f"{self.name} is not configured: {missing}.", field=self.name)
        if request.tools:
            await _validation_ready()
        answer = Answer(
            request, self._refusals, model=f"{self.name}/{model}", price=self.facts(model).price
        )
        body = self._provider.dialect.body(model, request)
        response = await self._send("POST", self._path, body)
        reading = _Reading(response)
        try:
            if response.status != 200:
                raise await self._refused(response, reading)
            reader = self._provider.dialect.reader(answer)
            async with aclosing(self._events(reading, reader, answer)) as events:
                yield events
        finally:
            await self._wire.leave(response, whole=reading.done)

    async def remote_models(self) -> tuple[str, ...]:
        """The names that the provider itself lists. Raises our errors."""
        if missing := self._provider.missing:
            raise NotConfigured(f"{self.name} is not configured: {missing}.", field=self.name)
        base = self._provider.base_url.rstrip("/")
        if self._provider.lists == "ollama":
            rows = (await self._json("GET", f"{base}/api/tags", None)).get("models", [])
            return tuple(sorted(str(row["name"]) for row in rows))
        path = f"{base}/v1/models?limit=1000" if self.name == "anthropic" else f"{base}/models"
        rows = (await self._json("GET", path, None)).get("data", [])
        return tuple(sorted(str(row["id"]) for row in rows))

    # --- the call --------------------------------------------------------------------------

    async def _events(
        self, reading: _Reading, reader: Reader, answer: Answer
    ) -> AsyncGenerator[ChatEvent, None]:
        while True:
            data = await self._read(reading, answer)
            for event in reader.feed(data) if data else reader.end():
                if isinstance(event, Finished):
                    reading.done = True
                yield event
            if reading.done or not data:
                return

    async def _read(self, reading: _Reading, answer: Answer) -> bytes:
        try:
            return await reading.next()
        except OSError as error:
            told = type(error).__name__
            if answer.begun:
                raise self._refusals.cut(f"the connection broke ({told})") from None
            raise self._refusals.cut(f"the connection broke before it began ({told})") from None

    async def _send(self, method: str, url: str, body: bytes | None) -> Answered:
        try:
            return await self._wire.send(method, url, self._headers, body)
        except OSError:
            raise self._refusals.unreachable() from None
        except ValueError as error:
            raise self._refusals.unreadable(type(error).__name__) from None

    async def _refused(self, response: Answered, reading: _Reading) -> SoniaError:
        body = b""
        try:
            async with asyncio.timeout(LEARN_S):
                while len(body) < MOST_ERROR_BYTES and (data := await reading.next()):
                    body += data
        except (TimeoutError, OSError):
            pass
        after = response.headers.get("retry-after", "")
        return self._refusals.of_status(response.status, body, after)

    # --- what it is ------------------------------------------------------------------------

    def _described(self, model: str) -> ModelInfo:
        facts = self.facts(model)
        return ModelInfo(
            id=f"{self.name}/{model}",
            provider=self.name,
            context_tokens=facts.context_tokens,
            vision=bool(facts.vision),
            input_usd=facts.price.input if facts.price else None,
            output_usd=facts.price.output if facts.price else None,
        )

    async def _learn(self, model: str) -> None:
        base = self._provider.base_url.rstrip("/").removesuffix("/v1")
        if self._provider.lists == "ollama":
            body = msgspec.json.encode({"model": model})
            told = await self._json("POST", f"{base}/api/show", body)
            info = told.get("model_info") or {}
            length = next((v for k, v in info.items() if k.endswith(".context_length")), None)
            if isinstance(length, int) and length > 0:
                self._learned[model] = ModelFacts(
                    context_tokens=length, vision="vision" in (told.get("capabilities") or ())
                )
            return
        rows = await self._json("GET", f"{self._provider.base_url.rstrip('/')}/models", None)
        for row in rows.get("data") or ():
            if facts := _listed(row):
                self._learned[str(row.get("id"))] = facts

    async def _json(self, method: str, url: str, body: bytes | None) -> dict[str, Any]:
        response = await self._send(method, url, body)
        reading = _Reading(response)
        try:
            if response.status != 200:
                raise await self._refused(response, reading)
            parts = []
            while data := await reading.next():
                parts.append(data)
            answer = msgspec.json.decode(b"".join(parts))
            return answer if isinstance(answer, dict) else {}
        finally:
            await self._wire.leave(response, whole=reading.done)


class _Reading:
    """An answer's bytes, bounded. `done` once nothing more is wanted."""

    def __init__(self, response: Answered) -> None:
        self.done = False
        self._response = response
        self._bytes = 0

    async def next(self) -> bytes:
        """The next that came; empty at the end."""
        data = await self._response.readany()
        self._bytes += len(data)
        if self._bytes > MOST_BYTES:
            raise OSError(f"over {MOST_BYTES} bytes")
        self.done = self.done or not data
        return data


def _listed(row: Any) -> ModelFacts | None:
    """From a row of OpenRouter's, vLLM's or Groq's list of models."""
    if not isinstance(row, dict):
        return None
    length = row.get("context_length") or row.get("max_model_len") or row.get("context_window")
    if not isinstance(length, int) or length <= 0:
        return None
    kinds = (row.get("architecture") or {}).get("input_modalities")
    price = None
    try:
        told = row.get("pricing") or {}
        price = Price(input=float(told["prompt"]) * 1e6, output=float(told["completion"]) * 1e6)
    except (KeyError, ValueError, TypeError):
        pass
    vision = "image" in kinds if isinstance(kinds, list) else None
    return ModelFacts(context_tokens=length, vision=vision, price=price)


_validation_loaded = False


async def _validation_ready() -> None:
    global _validation_loaded
    if not _validation_loaded:
        await asyncio.to_thread(load_validation)
        _validation_loaded = True
