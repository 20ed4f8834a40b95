"""What happens at a budget's limit, as configured."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sonia.config import Budgets, Limit
from sonia.router import ChatEvent, ChatRequest, Finished, TextDelta
from sonia.router.attempts import Answering, Candidate, Patience
from sonia.router.backends.facts import FREE, ModelFacts, Price
from sonia.router.breaker import Breaker
from sonia.router.budgets import Books, BudgetReached
from sonia.types import Message, Usage

ASK = ChatRequest(messages=(Message(role="user", content="hello"),))
PATIENCE = Patience(first_token_s=1.0, total_s=1.0, retries=0)


class Saying:
    """A backend with one answer, and what it costs."""

    prefills = True

    def __init__(self, name: str, price: Price) -> None:
        self.name = name
        self.price = price
        self.asked = 0

    def facts(self, model: str) -> ModelFacts:
        return ModelFacts(price=self.price)

    @asynccontextmanager
    async def stream(
        self, model: str, request: ChatRequest
    ) -> AsyncIterator[AsyncIterator[ChatEvent]]:
        self.asked += 1
        yield self._events()

    async def _events(self) -> AsyncIterator[ChatEvent]:
        yield TextDelta(text=self.name)
        yield Finished(
            model=f"{self.name}/m",
            provider=self.name,
            reason="stop",
            usage=Usage(prompt_tokens=1, completion_tokens=1),
            first_token_ms=1.0,
        )


async def said(on_limit: str, *, in_profile: bool) -> tuple[str, Saying, Saying]:
    away: Any = Saying("away", Price(input=1.0, output=1.0))
    other: Any = Saying("other", Price(input=1.0, output=1.0))
    local: Any = Saying("local", FREE)
    breaker = Breaker("away", failures=5, open_s=30.0)
    here = Candidate("local/m", local, "m")
    candidates = [
        Candidate("away/m", away, "m", breaker),
        Candidate("other/m", other, "m", breaker),
        *([here] if in_profile else []),
    ]
    books = Books(Budgets(on_limit=on_limit, day=Limit(tokens=1)), None)
    answering = Answering(ASK, candidates, PATIENCE, books, lambda: here)
    text = "".join([e.text async for e in answering.events() if isinstance(e, TextDelta)])
    return text, away, other


@pytest.mark.parametrize("in_profile", [True, False])
async def test_at_the_limit_a_local_model_answers_where_configured(in_profile: bool) -> None:
    text, away, other = await said("local", in_profile=in_profile)

    assert text == "local"
    assert (away.asked, other.asked) == (0, 0)


@pytest.mark.parametrize("on_limit", ["refuse", "ask"])
async def test_at_the_limit_nobody_is_called_where_limits_refuse(on_limit: str) -> None:
    with pytest.raises(BudgetReached):
        await said(on_limit, in_profile=True)
