"""What has to be approved, answered aloud: the real control, a real conversation, scripted ears."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sonia.config import EvaOs
from sonia.control import Control, open_control
from sonia.db import Database
from sonia.turn import (
    ApprovalNeeded,
    Reached,
    ResponseDelta,
    ToolAnswered,
    TurnEvent,
    TurnRequest,
    TurnStarted,
)
from sonia.types import ApprovalId, now
from sonia.voice.answering import APOLOGY
from sonia.voice.clauses import spoken
from sonia.voice.consenting import ON_SCREEN, THE_NUMBER, understood
from tests.contract.test_control_contract import plan
from tests.unit.test_voice_conversation import Echo
from tests.unit.test_voice_spoken import RATE, Scene, data, db, kinds, playing, quiet, said
from tests.voice_given import WORD_S, ScriptedSpeaker

__all__ = ["db"]  # a fixture
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class Asker(Echo):
    """Wants to do something of `tier`, waits for consent, and says what became of it."""

    def __init__(self, control: Control, tier: int) -> None:
        super().__init__()
        self._control = control
        self._tier = tier
        self.approval_id = ApprovalId("")

    @asynccontextmanager
    async def turn(
        self, request: TurnRequest, *, reached: Reached | None = None
    ) -> AsyncIterator[AsyncIterator[TurnEvent]]:
        try:
            yield self._events(request, reached)
        finally:
            if self.approval_id:
                await asyncio.shield(self._control.withdraw(self.approval_id, "stopped"))

    async def _events(
        self, request: TurnRequest, reached: Reached | None
    ) -> AsyncIterator[TurnEvent]:
        yield TurnStarted(turn_id="turn_1", session_id=request.session_id or "")
        decision = await self._control.judge(plan(tier=self._tier, preview="Read the secrets"))
        self.approval_id = ApprovalId(decision.approval_id or "")
        yield ApprovalNeeded(
            turn_id="turn_1",
            approval_id=self.approval_id,
            action_id="act_1",
            tool="file.write",
            preview="Read the secrets",
            risk_tier=self._tier,
            expires_at=now() + dt.timedelta(minutes=5),
        )
        state = (await self._control.decided(self.approval_id)).state
        yield ToolAnswered(turn_id="turn_1", action_id="act_1", name="file.write", status=state)
        yield ResponseDelta(turn_id="turn_1", text=f"It was {state}.")
        if reached is not None:
            await reached()


class Asked:
    """A session in which she has asked, and fell silent. The `text`s are said by a person."""

    def __init__(self, scene: Scene, control: Control, asker: Asker) -> None:
        assert isinstance(scene.mouth, ScriptedSpeaker)
        self.scene, self.control, self.asker, self.mouth = scene, control, asker, scene.mouth

    async def ask(self, *, to_the_end: bool = True) -> str:
        """What she asked."""
        self.scene.hears("Please read the secrets.")
        if not to_the_end:
            self.scene.clock.stop_in(1.0)
        await self.scene.say(said(600), quiet(400))
        await self.scene.until("APPROVAL_REQUIRED")
        if to_the_end:
            await self.heard(1)
        else:
            await asyncio.wait_for(self.scene.line.until_sound(20_000), 60)
        return self.answer[-1]

    async def heard(self, count: int) -> None:
        """Wait until so many things were said, the last of them to its end."""
        while len(self.answer) < count:
            await self.scene.line.more_sound()
        words = sum(len(text.split()) for text in self.answer)
        await asyncio.wait_for(self.scene.line.until_sound(int(words * WORD_S * RATE) * 2), 60)
        talking = self.scene.conversation._talking
        assert talking
        await asyncio.wait_for(talking._playback.finished(), 60)
        await self.scene.clock.sleep(1.0)  # and to be sure that she is silent

    @property
    def answer(self) -> list[str]:
        """What she said so far, without how she would say sorry."""
        return [text for text in self.mouth.said if text != APOLOGY]

    async def says(self, text: str) -> None:
        self.scene.hears(text)
        await self.scene.say(said(600), quiet(400))

    async def state(self) -> str:
        return (await self.control.approval(self.asker.approval_id)).state


@asynccontextmanager
async def asked(db: Database, tier: int, user_id: str = "owner") -> AsyncIterator[Asked]:
    async with open_control(EvaOs(), db) as control:
        asker = Asker(control, tier)
        async with playing(asker, db, control, user_id) as scene:
            yield Asked(scene, control, asker)


@pytest.mark.parametrize("words", ["No.", "Stop!", "No, deny it please.", "Don't do that."])
async def test_a_spoken_no_denies_and_she_goes_on(db: Database, words: str) -> None:
    async with asked(db, tier=3) as asking:
        await asking.ask()

        await asking.says(words)
        frames = await asking.scene.until("AUDIO_DONE")

        assert await asking.state() == "denied"
        assert (await asking.control.approval(asking.asker.approval_id)).answered_by == "voice"
        assert data(frames, "TRANSCRIPT")[-1]["text"] == words
        assert "INTERRUPTED" not in kinds(frames)
        assert asking.answer[-1] == "It was denied."


@pytest.mark.parametrize("words", ["Yes, approve.", "Approve it.", "Okay.", "Yes: 1 2 3 4 5 6."])
@pytest.mark.parametrize("tier", [1, 2, 3])
async def test_t15_a_spoken_yes_changes_nothing(db: Database, tier: int, words: str) -> None:
    async with asked(db, tier) as asking:
        await asking.ask()

        await asking.says(words)
        await asking.heard(2)

        assert await asking.state() == "pending"
        if tier > 1:
            assert asking.answer[-1] == ON_SCREEN


async def test_t15_the_number_that_she_read_out_approves_a_small_thing(db: Database) -> None:
    async with asked(db, tier=1) as asking:
        question = await asking.ask()
        number = " ".join(word for word in spoken(question).replace(",", " ").split())
        digits = [word.strip(".") for word in number.split() if word.strip(".") in DIGITS]

        await asking.says(f"Okay, {' '.join(digits)}.")
        await asking.scene.until("AUDIO_DONE")

        assert "Read the secrets" in question
        assert await asking.state() == "approved"
        assert asking.answer[-1] == "It was approved."


async def test_t15_the_number_said_over_her_voice_is_no_yes(db: Database) -> None:
    async with asked(db, tier=1) as asking:
        await asking.ask(to_the_end=False)
        code = await asking.control.code(asking.asker.approval_id)

        await asking.says(f"{code}.")
        await asking.scene.until("TRANSCRIPT")
        await asking.scene.clock.go_on()
        await asking.heard(2)

        assert await asking.state() == "pending"
        assert asking.answer[-1] == THE_NUMBER


async def test_t15_who_is_not_the_owner_can_only_say_no(db: Database) -> None:
    async with asked(db, tier=1, user_id="guest") as asking:
        question = await asking.ask()
        code = await asking.control.code(asking.asker.approval_id)

        await asking.says(f"{code}.")
        await asking.heard(2)

        assert not any(digit in question for digit in DIGITS)
        assert await asking.state() == "pending"


async def test_something_else_said_ends_the_question(db: Database) -> None:
    async with asked(db, tier=2) as asking:
        await asking.ask()
        first = asking.asker.approval_id

        await asking.says("What time is it in Lisbon now?")
        await asking.scene.until("INTERRUPTED")
        await asking.scene.until("APPROVAL_REQUIRED")

        assert (await asking.control.approval(first)).state == "cancelled"


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("", None),
        ("Nope", "no"),
        ("nein", "no"),
        ("I know nothing about that and will stop for today", None),
        ("yeah, okay", "yes"),
        ("Go ahead.", "yes"),
        ("427-709.", "number"),
        ("Four two seven, seven zero nine, please.", "number"),
        ("4 2", "yes"),
        ("Remind me at 4 27 and at 7 09", None),
    ],
)
def test_answers_are_told_from_other_words(text: str, meaning: str | None) -> None:
    assert understood(text) == meaning
