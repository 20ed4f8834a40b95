"""What is said twice is kept once; what is contradicted ends; the rest stands side by side."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import msgspec
import pytest

from sonia.events import Bus, TurnFinished
from sonia.memory import Change, NewMemory, Query, SqliteMemory
from sonia.memory.attributes import attribute_of
from tests.memory_given import MIGRATIONS, Clock, opened

ROWS = [
    msgspec.json.decode(line)
    for line in (MIGRATIONS.parent / "benchmarks/data/contradictions.jsonl")
    .read_bytes()
    .splitlines()
]


async def say(bus: Bus, clock: Clock, *texts: str, user_id: str = "owner") -> None:
    for text in texts:
        clock.at += dt.timedelta(minutes=1)
        told = TurnFinished(
            session_id="ses_1",
            turn_id=f"turn_{clock.at.timestamp()}",
            user_id=user_id,
            text=text,
            response="I see.",
            complete=True,
            at=clock.at,
        )
        await bus.publish(told)


async def known(memory: SqliteMemory, **query: object) -> list[str]:
    asked = Query(**{"query": "", "limit": 50, **query})  # type: ignore[arg-type]
    return sorted(hit.entry.content for hit in (await memory.search(asked)).hits)


async def test_labelled_statements_are_merged_superseded_or_kept_as_labelled(
    tmp_path: Path,
) -> None:
    bus, clock, wrong = Bus(), Clock(), []
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        for number, row in enumerate(ROWS):
            await say(bus, clock, *row["turns"], user_id=f"user {number}")

            told = " | ".join(await known(memory, user_id=f"user {number}")).lower()
            if row["kind"] == "same":
                good = told.count(row["once"]) == 1
            else:
                good = all(word.lower() in told for word in row["now"]) and not any(
                    word.lower() in told for word in row["gone"]
                )
            if not good:
                wrong.append((row["turns"], told))

    assert wrong == []


async def test_what_was_contradicted_is_still_known_of_its_time(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "I live in Lisbon.")
        then = clock.at
        await say(bus, clock, "I moved to Porto.")

        assert await known(memory) == ["I moved to Porto."]
        assert await known(memory, as_of=then) == ["I live in Lisbon."]
        kinds = [event.kind for event in await memory.events()]
        assert kinds.count("memory.superseded") == 1


async def test_what_came_in_by_another_way_is_contradicted_too(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        old = await memory.store(NewMemory(type="fact", content="My boss is called Nina."))
        await memory.change(old.id, Change(content="I live in Lisbon"))
        await say(bus, clock, "I moved to Porto.", "My boss is Farid.")

        assert await known(memory) == ["I moved to Porto.", "My boss is Farid."]


async def test_one_person_never_contradicts_another(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "I live in Lisbon.", user_id="ana")
        await say(bus, clock, "I live in Lisbon.", "I moved to Porto.", user_id="ben")

        assert await known(memory, user_id="ana") == ["I live in Lisbon."]


async def test_going_back_is_not_lost_as_known(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "I live in Lisbon.", "I live in Porto.", "I live in Lisbon.")

        assert await known(memory) == ["I live in Lisbon."]


async def test_what_ends_takes_nothing_else_with_it(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "I work at Philips.", "I no longer work at Shell.")

        assert "I work at Philips." in await known(memory)


async def test_the_same_weekday_of_another_week_is_another_day(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "My dentist appointment is on Thursday.")
        (first,) = await known(memory)
        clock.at += dt.timedelta(days=14)
        await say(bus, clock, "My dentist appointment is on Thursday.")

        (second,) = await known(memory)
        assert first != second


@pytest.mark.parametrize("evil", ["my " * 5000, "i " * 9999, "I live in " + "a" * 9000, "\0", ""])
def test_any_text_is_read(evil: str) -> None:
    attribute_of(evil)


async def test_what_a_person_asks_to_have_forgotten_is_erased(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "My dog's name is Biscuit.", "I live in Porto.", "My cat is Tom.")
        await say(bus, clock, "I live in Porto.", user_id="ana")
        await say(bus, clock, "Please forget that my dog is called Biscuit.")
        await say(bus, clock, "Forget that I live in Rome.", "Forget that I said so.", "Forget it.")

        assert await known(memory, user_id="owner") == ["I live in Porto.", "My cat is Tom."]
        assert await known(memory, user_id="ana") == ["I live in Porto."]
        told = " ".join(str(event.data) for event in await memory.events(limit=1000))
        assert "Biscuit" not in told


async def test_what_is_asked_to_be_forgotten_is_forgotten_as_it_was_too(tmp_path: Path) -> None:
    bus, clock = Bus(), Clock()
    async with opened(tmp_path, bus=bus, clock=clock) as memory:
        await say(bus, clock, "I live in Lisbon.")
        then = clock.at
        await say(bus, clock, "I moved to Porto.", "Forget that I lived in Lisbon.")
        await say(bus, clock, "Forget that I live in Lisbon.")

        assert await known(memory, as_of=then) == []
        assert await known(memory) == ["I moved to Porto."]
