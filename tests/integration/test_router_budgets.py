"""Budgets hold, whoever calls side by side; what was used is written down."""

from __future__ import annotations

import asyncio
import datetime as dt
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.app import MIGRATIONS
from sonia.config import Budgets, Limit
from sonia.db import Database, open_database
from sonia.errors import Conflict
from sonia.router import ChatRequest, Finished
from sonia.router.backends.facts import Price
from sonia.router.background import open_background
from sonia.router.budgets import Books, BudgetReached, PriceUnknown, open_books
from sonia.types import Message, Usage

PRICE = Price(input=3.0, output=15.0)
NOON = dt.datetime(2026, 11, 26, 12, tzinfo=dt.UTC)


def request(text: str = "hello", **fields: Any) -> ChatRequest:
    messages = (Message(role="user", content=text),)
    return ChatRequest(**{"messages": messages, "max_tokens": 100, **fields})


def end(tokens: int) -> Finished:
    usage = Usage(prompt_tokens=tokens, completion_tokens=tokens)
    return Finished(
        model="p/m",
        provider="p",
        reason="stop",
        usage=usage,
        first_token_ms=1.0,
        cost_usd=PRICE.cost_usd(usage),
    )


@asynccontextmanager
async def books(config: Budgets, folder: Path) -> AsyncIterator[tuple[Books, Database]]:
    async with (
        open_database(folder / "s.db", MIGRATIONS) as db,
        open_background() as background,
        open_books(config, db, background) as opened,
    ):
        yield opened, db


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.integers(300, 5000))
def test_a_hundred_calls_at_once_never_pass_a_budget(seed: int, limit: int) -> None:
    async def run() -> None:
        chance = random.Random(seed)
        usd = limit / 1e5
        kept = Books(Budgets(day=Limit(tokens=limit), user_day=Limit(usd=usd)), None)
        spent, cost, made = 0, 0.0, 0

        async def call() -> None:
            nonlocal spent, cost, made
            await asyncio.sleep(chance.random() / 1000)
            try:
                reserved = await kept.reserve(request(), "p/m", PRICE, local=False)
            except BudgetReached:
                return
            made += 1
            await asyncio.sleep(chance.random() / 1000)
            match chance.randrange(4):
                case 0:
                    reserved.unspent()
                case 1:
                    reserved.broke("ab" * chance.randrange(100))
                case _:
                    reserved.finished(end(chance.randrange(38)))
            spent = kept.budgets()[0].spent_tokens
            cost = kept.budgets()[1].spent_usd
            assert spent <= limit
            assert cost <= usd

        await asyncio.gather(*(call() for _ in range(100)))
        assert made or limit < 200
        assert all(not one.reserved_tokens for one in kept.budgets())

    asyncio.run(run())


async def test_what_is_reserved_can_be_used_by_nobody_else() -> None:
    kept = Books(Budgets(day=Limit(tokens=250)), None)
    first = await kept.reserve(request(), "p/m", PRICE, local=False)

    with pytest.raises(BudgetReached) as caught:
        await kept.reserve(request(), "p/m", PRICE, local=False)
    first.unspent()
    await kept.reserve(request(), "p/m", PRICE, local=False)

    assert caught.value.retry_after_s > 0
    assert "250 left" not in caught.value.message


async def test_a_crash_loses_no_spending(tmp_path: Path) -> None:
    config = Budgets(day=Limit(tokens=10_000))
    async with open_database(tmp_path / "s.db", MIGRATIONS) as db:
        crashed = Books(config, db, lambda: NOON)
        (await crashed.reserve(request(), "p/m", PRICE, local=False)).finished(end(30))
        await crashed.reserve(request("x" * 3000), "p/m", PRICE, local=False)  # and never settled

        after = Books(config, db, lambda: NOON)
        await after.reserve(request(), "p/m", PRICE, local=False)

        assert after.budgets()[0].spent_tokens >= 60 + 3000


async def test_a_clean_end_gives_back_what_was_only_held(tmp_path: Path) -> None:
    config = Budgets(day=Limit(tokens=10_000))
    async with books(config, tmp_path) as (kept, _):
        (await kept.reserve(request(), "p/m", PRICE, local=False)).finished(end(30))
    async with books(config, tmp_path) as (kept, _):
        await kept.reserve(request(), "p/m", PRICE, local=False)

        assert kept.budgets()[0].spent_tokens == 60


async def test_a_new_day_begins_anew_and_a_session_goes_on() -> None:
    day = NOON
    config = Budgets(user_day=Limit(tokens=300), session=Limit(tokens=350))
    kept = Books(config, None, lambda: day)
    asked = request(session_id="ses_1", user_id="ana")
    (await kept.reserve(asked, "p/m", PRICE, local=False)).finished(end(90))
    with pytest.raises(BudgetReached, match="ana"):
        await kept.reserve(asked, "p/m", PRICE, local=False)

    day = NOON + dt.timedelta(days=1)
    (await kept.reserve(asked, "p/m", PRICE, local=False)).finished(end(50))

    with pytest.raises(BudgetReached, match="ses_1"):
        await kept.reserve(asked, "p/m", PRICE, local=False)


async def test_local_models_are_in_no_budget_and_an_unknown_price_in_none_of_money() -> None:
    kept = Books(Budgets(day=Limit(usd=0.000001)), None)

    await kept.reserve(request(), "local/m", None, local=True)
    with pytest.raises(PriceUnknown, match="input_usd"):
        await kept.reserve(request(), "p/m", None, local=False)


async def test_a_person_may_allow_more_where_limits_ask(tmp_path: Path) -> None:
    config = Budgets(day=Limit(tokens=10), on_limit="ask")
    async with books(config, tmp_path) as (kept, _):
        with pytest.raises(BudgetReached, match="sonia usage allow"):
            await kept.reserve(request(), "p/m", PRICE, local=False)
        await kept.allow("day", "", 1000, 0.0)
    async with books(config, tmp_path) as (kept, _):
        (await kept.reserve(request(), "p/m", PRICE, local=False)).unspent()

    strict = Books(msgspec.structs.replace(config, on_limit="refuse"), None)
    with pytest.raises(Conflict):
        await strict.allow("day", "", 1000, 0.0)


async def test_usage_is_by_day_and_model_and_survives(tmp_path: Path) -> None:
    async with books(Budgets(), tmp_path) as (kept, _):
        for _ in range(3):
            reserved = await kept.reserve(request(user_id="ana"), "p/m", PRICE, local=False)
            reserved.finished(end(10))
        kept.count("q/n", "ben", Usage(prompt_tokens=1), None)
    async with books(Budgets(), tmp_path) as (kept, _):
        rows = await kept.used("2026-01-01", None)
        await kept.forget(("ana",))
        nobody = await kept.used("2026-01-01", "ana")
        after = await kept.used("2026-01-01", None)

    assert [(r.model, r.calls, r.prompt_tokens, r.unpriced_calls) for r in rows] == [
        ("p/m", 3, 30, 0),
        ("q/n", 1, 1, 1),
    ]
    assert rows[0].cost_usd == pytest.approx(3 * PRICE.cost_usd(end(10).usage))
    assert (nobody, after) == ((), rows)
