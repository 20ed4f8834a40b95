"""Which model answers, and how its answer arrives.

A `Router` takes a conversation and hands back a stream of events, whoever the model is:
text as it is made, tool calls once they are whole and valid, and one `Finished`.
It also turns text into vectors. It decides nothing about tools: it only proposes calls.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from sonia.errors import InvalidRequest, NotFound, Unavailable, UpstreamError
from sonia.types import DEFAULT_USER, Message, ToolCall, ToolSpec, Usage, Value

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
BudgetScope = Literal["day", "user", "session"]
BreakerState = Literal["closed", "open", "half_open"]
ProviderState = Literal["ready", "warming", "unconfigured", "down"]


class ModelNotFound(NotFound):
    """No configured provider serves this model id; `details["known"]` lists those there are."""

    reason = "model_not_found"


class ModelNotReady(Unavailable):
    """The model's weights are still being fetched or loaded."""


class ContextExceeded(InvalidRequest):
    """The prompt is longer than the model's context; `details` gives both, in tokens."""

    reason = "context_length_exceeded"


class AnswerCut(UpstreamError):
    """A stream ended without saying why: what arrived is not a complete answer."""


class ChatRequest(Value):
    """One call of a model.

    `model` is a full id (`local/qwen2.5-coder-0.5b-instruct`, `anthropic/…`) and tried alone;
    without it the candidates of `profile` are tried in order. `tools` may be proposed, in
    any number up to one per answer for local models; `tool_choice` is `auto`, `none`, `required`
    or the name of the one to call. `json_schema` constrains the whole answer to one JSON document;
    with `tools` it is either such a document or calls. `json_object` asks for any JSON object;
    `schema_strict` False lets a provider treat the schema as advice. `temperature` in [0, 2];
    `top_p` in (0, 1]; the penalties in [-2, 2]. The answer ends before any text of `stop`.
    `top_logprobs` (0 to 20) asks for the likelihood of every token. `reasoning_effort`
    and `verbosity` are passed on where a provider has them.

    `whole` says that nobody reads along: the answer may come in one piece, which is cheaper.
    `user_id` and `session_id` say whose budget pays.
    """

    messages: tuple[Message, ...]
    model: str | None = None
    profile: str = "chat_low_latency"
    tools: tuple[ToolSpec, ...] = ()
    json_schema: dict[str, Any] | None = None
    max_tokens: int = 512
    temperature: float = 0.0
    tool_choice: str = "auto"
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    parallel_tool_calls: bool = True
    json_object: bool = False
    schema_name: str = "answer"
    schema_strict: bool = True
    top_logprobs: int | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    whole: bool = False
    user_id: str = DEFAULT_USER
    session_id: str | None = None


class Likelihood(Value):
    """How likely a token was: `logprob` is natural, `bytes` its UTF-8."""

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None


class TokenLikelihood(Likelihood):
    """A token of the answer, and what else might have stood there, likeliest first."""

    top: tuple[Likelihood, ...] = ()


class TextDelta(Value, tag="text"):
    """The next piece of the answer; pieces join without separators.

    `logprobs` has its tokens when the request asked for them.
    """

    text: str
    logprobs: tuple[TokenLikelihood, ...] = ()


class ToolCallProposed(Value, tag="tool_call"):
    """A whole call: the name is one of `tools`, the arguments fit its JSON Schema."""

    call: ToolCall


class Finished(Value, tag="finished"):
    """The last event of every complete answer. `first_token_ms` counts from the request.

    `cost_usd` is None where the model's price is not known. `begun_by` is the model whose answer
    broke and was gone on with by `model`. `stop_sequence` is which text of `stop` ended it, where
    the model told.
    """

    model: str
    provider: str
    reason: FinishReason
    usage: Usage
    first_token_ms: float
    cost_usd: float | None = 0.0
    begun_by: str | None = None
    stop_sequence: str | None = None


ChatEvent = TextDelta | ToolCallProposed | Finished


class ModelInfo(Value):
    """A model that may be asked for. `context_tokens` bounds prompt and answer together.

    Prices are US dollars per million tokens; None is not known. `device` is where a local model
    is loaded: `cpu` or a graphics card's name; None while it is not, and elsewhere.
    """

    id: str
    provider: str
    context_tokens: int
    embedding: bool = False
    vision: bool = False
    input_usd: float | None = None
    output_usd: float | None = None
    device: str | None = None


class ProviderInfo(Value):
    """A provider and whether it can serve now; `reason` says why not."""

    name: str
    state: ProviderState
    models: tuple[str, ...]
    reason: str | None = None


class Route(Value):
    """Where a call would go and why, without making it; candidates in the order tried.

    `passed_over` says of candidates that would not be asked why.
    """

    profile: str
    model: str
    provider: str
    candidates: tuple[str, ...]
    reason: str
    passed_over: dict[str, str] = {}


class BreakerInfo(Value):
    """Whether calls of a provider are let through; `probe_in_s` until one is tried again."""

    name: str
    state: BreakerState
    failures: int
    probe_in_s: float | None = None


class UsageRow(Value):
    """What one model took on one day (UTC). `unpriced_calls` are in no sum of money."""

    day: str
    model: str
    calls: int
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    cost_usd: float
    unpriced_calls: int


class BudgetInfo(Value):
    """One budget, grants included; a limit of 0 is none. `key` is the user or session."""

    scope: str
    key: str
    limit_tokens: int
    limit_usd: float
    spent_tokens: int
    spent_usd: float
    reserved_tokens: int
    reserved_usd: float


@runtime_checkable
class Embeddings(Protocol):
    """Text to unit vectors. Fits memory's `Embedder`."""

    @property
    def space(self) -> str:
        """The model's name: vectors of different spaces must never be compared."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of every vector."""
        ...

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return `[len(texts), dimensions]`, each row of length 1.

        Raises `ModelNotReady` while the weights are being fetched or loaded.
        """
        ...

    async def count_tokens(self, texts: Sequence[str]) -> int:
        """How many tokens `embed` reads of these; a guess where the tokenizer is not here."""
        ...


@runtime_checkable
class Router(Protocol):
    """Every model behind one door."""

    @property
    def embeddings(self) -> Embeddings:
        """The configured embedding model."""
        ...

    def embeddings_of(self, space: str) -> Embeddings | None:
        """The model that made vectors of this space before, if it can still be asked."""
        ...

    def chat(self, request: ChatRequest) -> AbstractAsyncContextManager[AsyncIterator[ChatEvent]]:
        """Enter to call a model; iterate for its events; leave early to cancel it.

        Entering waits for the first event of the first candidate that gives one, so a
        failing candidate is passed over before anything was sent. A stream that breaks later
        is gone on with by the next candidate, nothing said twice. Raises `ModelNotFound`, and
        when every candidate failed the last one's error; from the iterator, `AnswerCut` or
        `UpstreamTimeout` when nobody could finish what was begun.
        """
        ...

    async def count_tokens(self, messages: Sequence[Message], model: str | None = None) -> int:
        """How many tokens the prompt takes; an estimate for remote models."""
        ...

    def context_tokens(self, model: str | None = None, profile: str = "chat_low_latency") -> int:
        """The context length of the model that `chat` would try first."""
        ...

    def route(
        self,
        profile: str = "chat_low_latency",
        model: str | None = None,
        *,
        tokens: int = 0,
        images: bool = False,
    ) -> Route:
        """Explain where `chat` would go with a prompt of about `tokens`. Deterministic."""
        ...

    async def usage(self, since: str, user_id: str | None = None) -> tuple[UsageRow, ...]:
        """By day and model, newest first, from the day `since` (`2026-11-26`) on."""
        ...

    def budgets(self) -> tuple[BudgetInfo, ...]:
        """Those that were used since the start."""
        ...

    async def allow(self, scope: BudgetScope, key: str, *, tokens: int, usd: float) -> BudgetInfo:
        """Let a budget be passed by so much, once. Raises `Conflict` where limits are final."""
        ...

    async def remote_models(self, provider: str) -> tuple[str, ...]:
        """The ids that a provider lists itself. Raises `NotFound`, and what calling it raises."""
        ...

    def breakers(self) -> tuple[BreakerInfo, ...]:
        """One for every provider outside this process."""
        ...

    def reset_breaker(self, name: str) -> BreakerInfo:
        """Let calls through again. Raises `NotFound`."""
        ...

    def providers(self) -> tuple[ProviderInfo, ...]:
        """Every known provider, configured or not."""
        ...

    def models(self) -> tuple[ModelInfo, ...]:
        """Every model that `chat` or `embeddings` may be asked for."""
        ...

    async def ready(self, model: str | None = None) -> None:
        """Return when the model that `chat` tries first is loaded; at once for remote ones.

        Raises what keeps it from being loaded.
        """
        ...

    async def probe(self) -> dict[str, object]:
        """Detail for `/status`. Raises `Unavailable` when no provider can serve or come to."""
        ...
