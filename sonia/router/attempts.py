"""One answer's way through its candidates: deadlines, breakers, retries, fallback.

A call is made again only where that can help: no connection, 429 once its `Retry-After` has
passed, 5xx. An answer that breaks after it began is gone on with by the next candidate.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from typing import Protocol

import msgspec

from sonia.errors import RateLimited, SoniaError, Unavailable, UpstreamError, UpstreamTimeout
from sonia.router.backends.base import Backend
from sonia.router.backends.facts import Price
from sonia.router.backends.refusals import NotConfigured
from sonia.router.breaker import Breaker, BreakerOpen, counts
from sonia.router.budgets import BudgetReached, Reservation
from sonia.router.interface import (
    AnswerCut,
    ChatEvent,
    ChatRequest,
    Finished,
    ModelNotReady,
    TextDelta,
    ToolCallProposed,
)
from sonia.router.joining import Joint, continued, is_document

MOST_CALLS = 8
PASS_OVER_S = 2.0
BACKOFF_S = 0.25


class Candidate(msgspec.Struct, frozen=True):
    """A model that may answer, and who serves it. Local models have no breaker."""

    id: str
    backend: Backend
    name: str
    breaker: Breaker | None = None


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long and how often."""

    first_token_s: float
    total_s: float
    retries: int
    pause: Callable[[float], Awaitable[object]] = asyncio.sleep


class Trial(msgspec.Struct, frozen=True):
    """One call that failed: for the log."""

    model: str
    error: str
    message: str


class Paying(Protocol):
    """Whoever pays for calls."""

    @property
    def on_limit(self) -> str: ...

    async def reserve(
        self, request: ChatRequest, model: str, price: Price | None, *, local: bool
    ) -> Reservation:
        """Raises when there is not enough left."""
        ...


class Answering:
    """Use `events` once. `trials` are the calls that failed, in order."""

    def __init__(
        self,
        request: ChatRequest,
        candidates: Sequence[Candidate],
        patience: Patience,
        books: Paying,
        spare: Callable[[], Candidate | None] = lambda: None,
    ) -> None:
        self._books = books
        self._spare = spare
        self.trials: list[Trial] = []
        self.model = ""
        self._request = request
        self._queue = deque(candidates)
        self._patience = patience
        self._ends_s = asyncio.get_running_loop().time() + patience.total_s
        self._said: list[str] = []
        self._began_by: str | None = None
        self._proposed = False
        self._tries: dict[str, int] = {}

    @property
    def said(self) -> str:
        """The text handed on so far."""
        return "".join(self._said)

    async def events(self) -> AsyncGenerator[ChatEvent, None]:
        """Until `Finished`. Raises the last failure; `AnswerCut` for one after text went out."""
        failure: SoniaError | None = None
        calls = 0
        while self._queue and calls < MOST_CALLS:
            candidate = self._queue[0]
            calls += 1
            try:
                async with AsyncExitStack() as stack:
                    async for event in self._called(stack, candidate):
                        yield event
                return
            except SoniaError as error:
                failure = error
            self.trials.append(Trial(candidate.id, failure.code, failure.message))
            if isinstance(failure, BreakerOpen | NotConfigured):  # nobody was called
                calls -= 1
            if self._proposed or self._late():
                break
            await self._next(candidate, failure)
        failure = failure or Unavailable("There is no candidate to try.")
        if self._said and not isinstance(failure, AnswerCut | UpstreamTimeout):
            raise AnswerCut(f"The answer broke off: {failure.message}") from failure
        raise failure

    async def _next(self, candidate: Candidate, failure: SoniaError) -> None:
        """Leave the right candidate in front, and wait where waiting helps."""
        self._queue.popleft()
        if isinstance(failure, BudgetReached):
            self._degrade()
            return
        tries = self._tries[candidate.id] = self._tries.get(candidate.id, 0) + 1
        if tries > self._patience.retries or not may_pass(failure):
            return
        if self._said:  # another one goes on; the same only when there is none
            self._queue.append(candidate)
            return
        wait_s = BACKOFF_S * 2 ** (tries - 1)
        if isinstance(failure, RateLimited):
            wait_s = max(float(failure.retry_after_s), wait_s)
        left_s = min(self._patience.first_token_s, self._ends_s - _now())
        if wait_s > (PASS_OVER_S if self._queue else left_s):
            return
        await self._patience.pause(wait_s)
        self._queue.appendleft(candidate)

    def _degrade(self) -> None:
        """Leave only models that cost nothing, where configured; else none."""
        local = [one for one in self._queue if one.breaker is None]
        if self._books.on_limit != "local":
            local = []
        elif not local and (spare := self._spare()):
            local = [spare]
        self._queue = deque(local)

    async def _called(
        self, stack: AsyncExitStack, candidate: Candidate
    ) -> AsyncIterator[ChatEvent]:
        """One call. Raises whatever ends it before `Finished`."""
        price = candidate.backend.facts(candidate.name).price
        reserved = await self._books.reserve(
            self._request, candidate.id, price, local=candidate.breaker is None
        )
        stack.callback(reserved.unspent)
        joint = Joint(self.said, again=is_document(self._request)) if self._said else None
        before = len(self._said)
        try:
            events, event = await self._first(stack, candidate)
        except UpstreamTimeout:  # it may have read all of the prompt
            reserved.broke("")
            raise
        stack.callback(lambda: reserved.broke("".join(self._said[before:])))
        while not isinstance(event, Finished):
            if isinstance(event, ToolCallProposed):
                self._proposed = True
                yield event
            elif (text := joint.take(event.text) if joint else event.text) or event.logprobs:
                self._began_by = self._began_by or candidate.id
                self._said.append(text)
                yield event if text is event.text else TextDelta(text=text)
            event = await self._later(events, candidate.breaker)
        if joint and (text := joint.end()):
            self._said.append(text)
            yield TextDelta(text=text)
        self.model = candidate.id
        reserved.finished(event)
        yield self._end(event)

    async def _later(self, events: AsyncIterator[ChatEvent], breaker: Breaker | None) -> ChatEvent:
        try:
            async with asyncio.timeout_at(self._ends_s):
                return await anext(events)
        except TimeoutError as error:
            raise UpstreamTimeout("The answer took longer than total_timeout_s allows.") from error
        except StopAsyncIteration as error:
            raise AnswerCut("The answer ended without saying why.") from error
        except SoniaError as error:
            if breaker and counts(error):
                breaker.broke()
            raise

    async def _first(
        self, stack: AsyncExitStack, candidate: Candidate
    ) -> tuple[AsyncIterator[ChatEvent], ChatEvent]:
        """Call, and wait for the first sign of life."""
        request = self._request
        if self._said:
            request = continued(request, self.said, prefills=candidate.backend.prefills)
        limit_s = min(self._patience.first_token_s, self._ends_s - _now())
        until_s = _now() + limit_s
        async with candidate.breaker.trying() if candidate.breaker else nullcontext():
            try:
                async with asyncio.timeout_at(until_s):
                    events = await stack.enter_async_context(
                        candidate.backend.stream(candidate.name, request)
                    )
                    return events, await anext(events)
            except TimeoutError as error:
                raise UpstreamTimeout(
                    f"{candidate.id} gave no answer within {limit_s:.3g} s."
                ) from error
            except StopAsyncIteration as error:
                raise AnswerCut(f"{candidate.id} ended its answer before it began.") from error

    def _end(self, event: Finished) -> Finished:
        if self._began_by and self._began_by != event.model:
            return msgspec.structs.replace(event, begun_by=self._began_by)
        return event

    def _late(self) -> bool:
        return _now() >= self._ends_s


def may_pass(failure: SoniaError) -> bool:
    """Whether asking the same model again may help."""
    if isinstance(failure, ModelNotReady | BreakerOpen | UpstreamTimeout):
        return False
    return isinstance(failure, RateLimited | Unavailable | UpstreamError) and failure.retryable


def _now() -> float:
    return asyncio.get_running_loop().time()
