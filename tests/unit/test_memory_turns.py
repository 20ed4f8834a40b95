"""What a finished turn leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonia.envelope import Exchange, enter
from sonia.events import Bus, TurnFinished, Written
from sonia.memory import EntryNotFound, NewMemory, Query, SessionNotFound
from sonia.types import now
from tests.memory_given import opened


def turn(text: str, response: str = "I see.", **fields: object) -> TurnFinished:
    given = {"session_id": "ses_1", "turn_id": "turn_1", "user_id": "owner", "complete": True}
    return TurnFinished(**{**given, "at": now(), "text": text, "response": response, **fields})


async def test_a_turn_is_written_with_what_is_worth_finding(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        enter(Exchange(correlation_id="req_7"))

        answers = await bus.publish(turn("My dog is called Biscuit. What do you think?"))

        assert answers == [Written(events=2, memories=1)]
        (hit,) = (await memory.search(Query(query="dog's name", mode="text"))).hits
        assert hit.entry.content == "My dog is called Biscuit."
        assert (hit.entry.origin, hit.entry.session_id) == ("owner", "ses_1")
        assert hit.entry.metadata == {"turn_id": "turn_1"}
        said, answered = await memory.events()
        assert (said.kind, answered.kind) == ("turn.user", "turn.assistant")
        assert said.data["memories"] == [hit.entry.id]
        assert {said.correlation_id, answered.correlation_id} == {"req_7"}
        assert (await memory.session("ses_1")).turns == 1


async def test_memory_that_was_left_hears_of_no_turn(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus):
        pass

    assert await bus.publish(turn("My dog is called Biscuit.")) == []


async def test_history_is_what_was_said_oldest_first(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        for n in range(3):
            await bus.publish(turn(f"question {n}?", f"answer {n}", turn_id=f"turn_{n}"))
        await bus.publish(turn("elsewhere?", session_id="ses_2"))

        history = await memory.history("ses_1", limit=4)

        assert [(said.role, said.content, said.turn_id) for said in history] == [
            ("user", "question 1?", "turn_1"),
            ("assistant", "answer 1", "turn_1"),
            ("user", "question 2?", "turn_2"),
            ("assistant", "answer 2", "turn_2"),
        ]


async def test_an_answer_that_was_cut_off_is_kept_as_far_as_it_was_heard(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await bus.publish(turn("Tell me a story", "Once upon", complete=False))

        assert [said.content for said in await memory.history("ses_1")] == [
            "Tell me a story",
            "Once upon",
        ]
        assert (await memory.events())[-1].data["complete"] is False


async def test_an_answer_nobody_heard_is_not_remembered(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        answers = await bus.publish(turn("My cat is Tom.", "", complete=False))

        assert answers == [Written(events=1, memories=1)]
        assert [said.role for said in await memory.history("ses_1")] == ["user"]


async def test_the_same_is_not_remembered_twice_of_one_person(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await bus.publish(turn("My dog is called Biscuit."))
        await bus.publish(turn("my  dog is called BISCUIT", turn_id="turn_2"))
        await bus.publish(turn("My dog is called Biscuit!", user_id="ada", turn_id="turn_3"))

        assert [entry.user_id for entry in await memory.by_type("fact")] == ["ada", "owner"]


POISON = NewMemory(type="fact", content="My bank is Evil Corp.", origin="web")


async def test_t03_where_a_memory_came_from_outlives_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        await memory.store(POISON)

    async with opened(tmp_path) as memory:
        (hit,) = (await memory.search(Query(query="bank", mode="text"))).hits
        assert hit.entry.origin == "web"


async def test_t03_saying_it_again_does_not_clear_where_it_came_from(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await memory.store(POISON)
        await bus.publish(turn("my bank is evil corp"))

        assert [entry.origin for entry in await memory.by_type("fact")] == ["web"]


async def test_t03_an_answer_made_of_outside_content_stays_marked_in_history(
    tmp_path: Path,
) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus):
        await bus.publish(turn("Read it to me. I like jazz.", tainted=True))

    async with opened(tmp_path) as memory:
        said = await memory.history("ses_1")
        kept = await memory.by_type("preference")

    assert [(item.role, item.tainted) for item in said] == [("user", False), ("assistant", True)]
    assert [entry.origin for entry in kept] == ["owner"]


async def test_a_closed_session_is_empty_and_its_memories_stay(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await bus.publish(turn("My dog is called Biscuit."))

        await memory.close_session("ses_1")

        assert await memory.history("ses_1") == ()
        assert [event.data for event in await memory.events()] == [{"erased": True}] * 2
        assert len((await memory.search(Query(query="dog"))).hits) == 1
        with pytest.raises(SessionNotFound):
            await memory.session("ses_1")


async def test_forgetting_a_memory_erases_the_turn_it_was_taken_from(tmp_path: Path) -> None:
    bus = Bus()
    async with opened(tmp_path, bus=bus) as memory:
        await bus.publish(turn("My dog is called Biscuit.", "Biscuit is a fine name."))
        await bus.publish(turn("What time is it?", "Noon.", turn_id="turn_2"))
        (entry,) = await memory.by_type("fact")

        await memory.forget(entry.id)

        assert "Biscuit" not in str(await memory.events())
        assert [said.content for said in await memory.history("ses_1")] == [
            "What time is it?",
            "Noon.",
        ]
        with pytest.raises(EntryNotFound):
            await memory.recall(entry.id)
