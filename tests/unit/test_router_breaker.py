"""The breaker's states, as a machine that anything may happen to."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from sonia.errors import InvalidRequest, RateLimited, Unavailable
from sonia.router.breaker import Breaker, BreakerOpen

MOST = 3
OPEN_S = 10.0


class BreakerMachine(RuleBasedStateMachine):
    """Beside the breaker, what a person would count."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.breaker = Breaker("p", failures=MOST, open_s=OPEN_S, clock=lambda: self.now_s)
        self.out = 0
        self.failures_in_a_row = 0

    @rule()
    def ask(self) -> None:
        state = self.breaker.state
        verdict = self.breaker.ask()
        if verdict == "go":
            assert state != "open"
            assert state == "closed" or self.out == 0
            self.out += 1
        elif verdict == "no":
            assert state == "open" or (state == "half_open" and self.out)
        else:
            assert state == "closed"
            assert self.out

    @precondition(lambda self: self.out)
    @rule(end=st.sampled_from(["succeeded", "failed", "left"]))
    def end(self, end: str) -> None:
        getattr(self.breaker, end)()
        self.out -= 1
        if end == "succeeded":
            self.failures_in_a_row = 0
            assert self.breaker.state == "closed"
        elif end == "failed":
            self.failures_in_a_row += 1
            if self.failures_in_a_row >= MOST:
                assert self.breaker.state == "open"

    @rule(seconds=st.floats(0, 2 * OPEN_S))
    def wait(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def reset(self) -> None:
        self.breaker.reset()
        self.failures_in_a_row = 0
        assert self.breaker.state == "closed"

    @invariant()
    def closed_means_few_failures(self) -> None:
        if self.breaker.state == "closed":
            assert self.failures_in_a_row < MOST


TestBreaker = BreakerMachine.TestCase
TestBreaker.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("dead", [True, False])
async def test_r14_a_hundred_calls_at_once_ask_a_dead_provider_no_more_than_a_few_times(
    dead: bool,
) -> None:
    breaker = Breaker("p", failures=MOST, open_s=OPEN_S)
    asked = 0

    async def call() -> None:
        nonlocal asked
        async with breaker.trying():
            asked += 1
            await asyncio.sleep(0)
            if dead:
                raise Unavailable("down")

    ends = await asyncio.gather(*(call() for _ in range(100)), return_exceptions=True)

    assert asked == (MOST if dead else 100)
    assert sum(isinstance(end, BreakerOpen) for end in ends) == (100 - MOST if dead else 0)


@pytest.mark.parametrize("error", [RateLimited("slow"), InvalidRequest("wrong")])
async def test_what_the_caller_did_opens_no_breaker(error: Exception) -> None:
    breaker = Breaker("p", failures=1, open_s=OPEN_S)

    with pytest.raises(type(error)):
        async with breaker.trying():
            raise error

    assert breaker.state == "closed"


async def test_a_probe_that_is_cancelled_lets_another_one_through() -> None:
    now_s = 0.0
    breaker = Breaker("p", failures=1, open_s=OPEN_S, clock=lambda: now_s)
    breaker.ask()
    breaker.failed()
    now_s = OPEN_S
    with pytest.raises(asyncio.CancelledError):
        async with breaker.trying():
            raise asyncio.CancelledError

    async with breaker.trying():
        pass

    assert breaker.state == "closed"
