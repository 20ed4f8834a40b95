"""A model reads turns behind: what it may add, and what never happens because of it."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sonia.config import Extraction, MemoryEngine, Summaries
from sonia.errors import Unavailable
from sonia.events import Bus, TurnFinished
from sonia.memory import Forget, NewMemory, Query, SqliteMemory
from sonia.memory.extracting import Extracted, grounded
from tests.memory_given import Clock, ScriptedModel, opened

SAID = "After six years in Lisbon we finally settled down in Porto, Ines and me."
SETTLED = {"type": "fact", "quote": "we finally settled down in Porto"}
NOTHING = '{"memories": []}'


def answer(*memories: dict[str, str]) -> str:
    return json.dumps({"memories": memories})


def said(text: str = SAID, turn_id: str = "turn_1", at: dt.datetime | None = None) -> TurnFinished:
    return TurnFinished(
        session_id="ses_1",
        turn_id=turn_id,
        user_id="owner",
        text=text,
        response="I see.",
        complete=True,
        at=at or Clock().at,
    )


def quick(**fields: Any) -> MemoryEngine:
    return MemoryEngine(extraction=Extraction(**{"idle_s": 0.01, **fields}))


async def until(memory: SqliteMemory, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    while True:
        account = (await memory.probe())["reading"]
        assert isinstance(account, dict)
        if fits(account):
            return account
        await asyncio.sleep(0.01)


async def known(memory: SqliteMemory) -> dict[str, str]:
    hits = (await memory.search(Query(query="", limit=50))).hits
    return {hit.entry.content: hit.entry.origin for hit in hits}


async def test_a_statement_in_the_persons_own_words_is_theirs(tmp_path: Path) -> None:
    bus = Bus()
    model = ScriptedModel(answer({**SETTLED, "statement": "We settled in Porto after Lisbon."}))
    async with opened(tmp_path, bus=bus, config=quick(), model=model) as memory:
        await bus.publish(said())
        await until(memory, lambda account: account["waiting"] == 0)

        assert (await known(memory))["We settled in Porto after Lisbon."] == "owner"
        assert model.asked == [SAID]


async def test_what_the_model_adds_is_the_models_and_replaces_nothing(tmp_path: Path) -> None:
    bus = Bus()
    model = ScriptedModel(
        NOTHING, answer({**SETTLED, "statement": "I live in Porto with Ines now, settled down."})
    )
    async with opened(tmp_path, bus=bus, config=quick(), model=model) as memory:
        await bus.publish(said("I live in Lisbon.", "turn_0"))
        await until(memory, lambda account: account["waiting"] == 0)
        await bus.publish(said())
        await until(memory, lambda account: account["waiting"] == 0)

        found = await known(memory)
        assert found["I live in Lisbon."] == "owner"
        assert found["I live in Porto with Ines now, settled down."] == "model"


@pytest.mark.parametrize(
    ("quote", "statement"),
    [
        ("we moved to Berlin", "We moved to Berlin."),
        ("we finally settled down in Porto", "My bank account number is 12345."),
        ("we finally settled down in Porto", "Did we settle down in Porto?"),
        ("we finally settled down in Porto", "Porto."),
        (" ", "We settled down in Porto."),
    ],
)
def test_what_is_not_grounded_in_the_words_is_not_kept(quote: str, statement: str) -> None:
    assert not grounded(Extracted(type="fact", quote=quote, statement=statement), SAID)


async def test_a_turn_that_waits_is_read_after_a_restart(tmp_path: Path) -> None:
    bus, slow = Bus(), quick(idle_s=3600.0)
    async with opened(tmp_path, bus=bus, config=slow, model=ScriptedModel()):
        await bus.publish(said())
    model = ScriptedModel(answer({**SETTLED, "statement": "We settled down in Porto."}))
    async with opened(tmp_path, config=quick(), model=model) as memory:
        await until(memory, lambda account: account["waiting"] == 0)

        assert "We settled down in Porto." in await known(memory)


async def test_a_turn_that_was_forgotten_is_shown_to_no_model(tmp_path: Path) -> None:
    bus, slow = Bus(), quick(idle_s=3600.0)
    async with opened(tmp_path, bus=bus, config=slow, model=ScriptedModel()) as memory:
        await bus.publish(said())
        await memory.erase(Forget(session_id="ses_1"))
    model = ScriptedModel()
    async with opened(tmp_path, config=quick(), model=model) as memory:
        await until(memory, lambda account: account["waiting"] == 0)

    assert model.asked == []


@pytest.mark.parametrize("failure", [Unavailable("Down."), "not json", '{"memories": [{}]}'])
async def test_what_fails_is_put_off_then_left_to_the_rules(
    tmp_path: Path, failure: str | Exception
) -> None:
    bus, clock = Bus(), Clock()
    model = ScriptedModel(failure, failure)
    config = quick(tries=2)
    async with opened(tmp_path, bus=bus, clock=clock, config=config, model=model) as memory:
        await bus.publish(said(f"My cat is called Tom. {SAID}", at=clock.at))
        account = await until(memory, lambda account: bool(account["trouble"]))
        assert (account["waiting"], account["dropped"]) == (1, 0)
        clock.at += dt.timedelta(minutes=2)
        await bus.publish(said("Hm.", "turn_2", at=clock.at))
        account = await until(memory, lambda account: account["dropped"] == 1)

        assert account["waiting"] == 0
        assert "My cat is called Tom." in await known(memory)


async def test_a_model_that_hangs_is_given_up(tmp_path: Path) -> None:
    bus = Bus()
    config = quick(deadline_s=0.01, tries=1)
    async with opened(tmp_path, bus=bus, config=config, model=Hanging()) as memory:
        await bus.publish(said())
        account = await until(memory, lambda account: account["dropped"] == 1)

        assert "longer than" in account["trouble"]


async def test_whoever_speaks_comes_first(tmp_path: Path) -> None:
    bus, model = Bus(), Hanging()
    async with opened(tmp_path, bus=bus, config=quick(), model=model) as memory:
        await bus.publish(said())
        await model.asked.wait()
        await memory.open_session("ses_2")
        await model.left.wait()

        account = await until(memory, lambda account: True)
        assert (account["waiting"], account["dropped"], account["trouble"]) == (1, 0, None)


async def test_summing_up_waits_for_whoever_speaks(tmp_path: Path) -> None:
    clock, model = Clock(), Hanging()
    config = MemoryEngine(
        extraction=Extraction(idle_s=0.01), summaries=Summaries(at_least=2, after_days=1)
    )
    async with opened(tmp_path, clock=clock, config=config, model=model) as memory:
        for content in ("I went to the zoo.", "I met Tom at the lake."):
            await memory.store(NewMemory(type="episode", content=content, session_id="ses_1"))
        clock.at += dt.timedelta(days=2)
        job = asyncio.create_task(memory.run_job("summarise"))
        await model.asked.wait()
        await memory.open_session("ses_2")

        assert (await job).outcome == {"summaries": 0, "archived": 0}
        assert model.left.is_set()
        assert len(await known(memory)) == 2


async def test_leaving_does_not_wait_for_a_model(tmp_path: Path) -> None:
    bus, model = Bus(), Hanging()
    async with asyncio.timeout(60):
        async with opened(tmp_path, bus=bus, config=quick(), model=model):
            await bus.publish(said())
            await model.asked.wait()

    assert model.left.is_set()


async def test_without_a_model_nothing_is_queued(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await bus.publish(said())

        assert (await memory.probe())["reading"] is None


class Hanging:
    """Asked, it never answers."""

    def __init__(self) -> None:
        self.asked, self.left = asyncio.Event(), asyncio.Event()

    async def answer(self, instructions: str, text: str, schema: dict[str, Any]) -> str:
        self.asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.left.set()
        raise AssertionError
