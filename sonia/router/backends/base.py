"""What a backend is to the router, and what is true of every backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import msgspec

from sonia.errors import InvalidRequest
from sonia.router.backends.facts import ModelFacts
from sonia.router.interface import ChatEvent, ChatRequest, ModelInfo, ProviderInfo
from sonia.types import Message, ToolSpec

CHARS_PER_TOKEN = 3.5


class Backend(Protocol):
    """One provider. Model names are without the provider's prefix."""

    @property
    def name(self) -> str:
        """The prefix of its models' ids."""
        ...

    @property
    def prefills(self) -> bool:
        """Whether an answer goes on from an assistant's message at the prompt's end."""
        ...

    def facts(self, model: str) -> ModelFacts:
        """What is known of a model that it serves."""
        ...

    async def learn(self, model: str) -> None:
        """Find out what isn't known, once. Never raises ours."""
        ...

    def info(self) -> ProviderInfo:
        """Whether it can serve now. Touches neither disk nor network."""
        ...

    def models(self) -> tuple[ModelInfo, ...]:
        """Those configured."""
        ...

    def serves(self, model: str) -> bool:
        """Whether a request may name this model."""
        ...

    def stream(
        self, model: str, request: ChatRequest
    ) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        """Enter to call; iterate for events; leave to cancel. Ends with one `Finished`."""
        ...

    async def count_tokens(self, model: str, messages: Sequence[Message]) -> int:
        """How many tokens the prompt takes."""
        ...

    def context_tokens(self, model: str) -> int:
        """Prompt and answer together."""
        ...


class WeightsProgress(Protocol):
    """How far a pull is."""

    @property
    def stage(self) -> str: ...
    @property
    def done_bytes(self) -> int: ...
    @property
    def total_bytes(self) -> int: ...


class WeightsSource(Protocol):
    """What the router needs of `sonia.weights.Weights`."""

    async def ensure(self, name: str) -> dict[str, Path]:
        """File name → path, pulled when missing and checked against its hash."""
        ...

    def progress(self, name: str) -> WeightsProgress:
        """Of the pull of this entry, if one is under way."""
        ...


def estimated_tokens(messages: Sequence[Message]) -> int:
    """A guess on the high side, for models whose tokenizer is not here."""
    chars = sum(len(message.content) + 16 for message in messages)
    return int(chars / CHARS_PER_TOKEN) + 1


def fits(arguments: Any, tool: ToolSpec) -> bool:
    """Whether the arguments are valid under the tool's JSON Schema.

    Raises `InvalidRequest` when the schema itself is not one.
    """
    if not isinstance(arguments, dict):
        return False
    return bool(_validator(tool.name, msgspec.json.encode(tool.parameters)).is_valid(arguments))


@lru_cache(maxsize=256)
def _validator(name: str, schema: bytes) -> Any:
    import jsonschema  # type: ignore[import-untyped]  # heavy: `load_validation` comes first

    parameters = msgspec.json.decode(schema)
    try:
        kind = jsonschema.validators.validator_for(parameters)
        kind.check_schema(parameters)
    except jsonschema.SchemaError as error:
        raise InvalidRequest(
            f"The parameters of tool {name} are not a JSON Schema: {error.message}", tool=name
        ) from error
    return kind(parameters)


def load_validation() -> None:
    """Import what `fits` needs. Reads many files: call it off the event loop."""
    import jsonschema  # noqa: F401


def pull_told(progress: WeightsProgress) -> str:
    """One line for people: what the pull is doing."""
    if progress.total_bytes and progress.stage not in ("waiting", "ready", "failed"):
        percent = 100 * progress.done_bytes // progress.total_bytes
        done_mb, total_mb = progress.done_bytes // 1_000_000, progress.total_bytes // 1_000_000
        return f"{progress.stage} the weights: {percent} % ({done_mb} of {total_mb} MB)"
    return "loading"
