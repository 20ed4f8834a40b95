"""The wake word: what is said to her, and what is only said near her."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from sonia.db import Database
from sonia.voice.waking import AWAKE_S, Wake
from tests.unit.test_voice_conversation import Echo, message
from tests.unit.test_voice_spoken import Scene, data, db, echo, kinds, playing, quiet, said
from tests.voice_given import ScriptedClock, Unasked

__all__ = ["db", "echo"]  # fixtures


@pytest.fixture
async def sleeper(echo: Echo, db: Database) -> AsyncIterator[Scene]:
    async with playing(echo, db, Unasked(), wake_word="hey sonia") as scene:
        yield scene


async def says(scene: Scene, text: str) -> None:
    scene.hears(text)
    await scene.say(said(600), quiet(400))


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("Hey Sonia, what time is it?", "what time is it?"),
        ("hey sonya. What time is it?", "What time is it?"),
        ("Hey, Sonja!", ""),
        ("I said hey to Sonia.", None),
        ("Hey Tony, what time is it?", None),
        ("Hey", None),
        ("", None),
    ],
)
def test_her_name_is_known_however_it_is_written(text: str, rest: str | None) -> None:
    assert Wake("hey sonia", ScriptedClock()).addressed(text) == rest


async def test_she_stays_awake_for_a_while() -> None:
    clock = ScriptedClock()
    wake = Wake("Hey Sonia", clock)

    before = wake.addressed("good morning")
    wake.addressed("Hey Sonia.")
    soon = wake.addressed("good morning")
    await clock.sleep(AWAKE_S)

    assert (before, soon, wake.addressed("good morning")) == (None, "good morning", None)


def test_without_a_word_everything_is_for_her() -> None:
    wake = Wake("", ScriptedClock())

    assert wake.awake
    assert wake.addressed("good morning") == "good morning"


async def test_only_what_begins_with_the_word_is_answered_and_shown(
    sleeper: Scene, echo: Echo
) -> None:
    await says(sleeper, "pass me the salt please")
    overheard = await sleeper.until("SPEECH_STOPPED")
    await says(sleeper, "Hey Sonia, how warm is it?")
    answered = await sleeper.until("AUDIO_DONE")

    assert not {"TRANSCRIPT", "PARTIAL_TRANSCRIPT"} & set(kinds(overheard))
    assert [one["text"] for one in data(answered, "TRANSCRIPT")] == ["Hey Sonia, how warm is it?"]
    assert [request.text for request in echo.requests] == ["how warm is it?"]


async def test_who_goes_on_after_an_answer_needs_no_word_until_it_is_long_ago(
    sleeper: Scene, echo: Echo
) -> None:
    await says(sleeper, "Hey Sonia, how warm is it?")
    await sleeper.until("TURN_METRICS")
    await says(sleeper, "and in Lisbon?")
    await sleeper.until("TURN_METRICS")
    await sleeper.clock.sleep(AWAKE_S + 1)
    await says(sleeper, "pass me the salt please")
    await sleeper.until("SPEECH_STOPPED")

    assert [request.text for request in echo.requests] == ["how warm is it?", "and in Lisbon?"]


async def test_who_presses_a_button_needs_no_word(sleeper: Scene, echo: Echo) -> None:
    sleeper.hears("how warm is it?")
    await sleeper.say(said(600))
    await sleeper.until("SPEECH_STARTED")
    await sleeper.conversation.hear(message("END_TURN"))
    await asyncio.wait_for(sleeper.until("AUDIO_DONE"), 60)

    assert [request.text for request in echo.requests] == ["how warm is it?"]
