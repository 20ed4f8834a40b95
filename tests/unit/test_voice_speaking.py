"""Cutting an answer into clauses, and knowing which of its words were heard."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.voice import Samples
from sonia.voice.clauses import Clauses, spoken
from sonia.voice.playback import Playback
from sonia.voice.speech import VOICE_RATE
from tests.voice_given import ScriptedClock


def clauses(*pieces: str) -> list[str]:
    cutting = Clauses()
    return [clause for piece in pieces for clause in cutting.feed(piece)] + cutting.end()


def test_the_first_clause_comes_soon_and_then_sentences() -> None:
    text = "Well, of course, it is. Spain, France and Italy are near. No"

    cut = clauses(*[f"{word} " for word in text.split()])

    assert [one.strip() for one in cut] == [
        "Well, of course,",
        "it is.",
        "Spain, France and Italy are near.",
        "No",
    ]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("The capital of France is Paris.", "The capital of France"),
        ("The sky is blue because of the air.", "The sky is blue"),
        ("Bob likes red and white wine", "Bob likes red and white wine"),
        ("Six big black dogs bit seven brown cats", "Six big black dogs bit seven"),
    ],
)
def test_a_first_clause_without_a_mark_ends_with_a_phrase(text: str, first: str) -> None:
    cut = clauses(*[f"{word} " for word in text.split()])

    assert cut[0].strip() == first


@pytest.mark.parametrize(
    "text", ["Dr. Smith arrived", "It is 3.14 today", "e.g. this one", "J. R. Hartley"]
)
def test_a_full_stop_is_not_always_an_end(text: str) -> None:
    assert clauses(f"{text} ") == [f"{text} "]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(alphabet="ab .,!?\n`1", max_size=12)))
def test_nothing_of_an_answer_is_lost(pieces: list[str]) -> None:
    whole = "".join(pieces)

    assert "".join(clauses(*pieces)).rstrip() == whole.rstrip()


def test_what_is_only_looked_at_is_not_spoken() -> None:
    text = "**Bold** and `code`, see [it](https://a.org/x) or https://a.org\n- one"

    assert spoken(text) == "Bold and code , see it or a link one"
    assert spoken("```python\nprint(1)\n```") == ""


async def test_as_many_words_were_heard_as_were_played() -> None:
    clock = ScriptedClock()
    sent: list[Samples] = []

    async def write(samples: Samples) -> None:
        sent.append(samples)

    playback = Playback(write, clock)
    playback.begin()
    playback.add("one two three four", np.ones(4 * VOICE_RATE, np.float32), 4.0)
    clock.stop_in(2.0)

    sending = asyncio.create_task(playback.send())
    while clock.now() < 101.9:  # noqa: ASYNC110  the clock moves as the task runs
        await asyncio.sleep(0)
    heard = await playback.stop()
    await clock.go_on()
    await sending

    assert heard == "one two"
    assert sum(map(len, sent)) / VOICE_RATE == pytest.approx(2.0, abs=0.2)
