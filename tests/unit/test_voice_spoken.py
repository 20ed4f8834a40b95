"""A spoken conversation over the whole pipeline, with engines and a clock that obey."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sonia.app import MIGRATIONS
from sonia.config import Pipecat
from sonia.db import Database, open_database
from sonia.errors import Unavailable
from sonia.events import ReminderDue
from sonia.forgetting import Scope, erase
from sonia.types import now
from sonia.voice import PLACES, Responder, Samples, StartSession, TalkingSessions, open_voice
from sonia.voice.consenting import Settles
from sonia.voice.conversation import Conversation
from sonia.voice.engines import loading
from sonia.voice.interface import Frame
from sonia.voice.speech import VOICE_RATE, Speech, from_pcm, to_pcm
from sonia.weights import Progress
from tests.unit.test_voice_conversation import Echo, Line, message
from tests.voice_given import (
    WORD_S,
    ScriptedClock,
    ScriptedJudge,
    ScriptedSpeaker,
    ScriptedTranscriber,
    Unasked,
    scripted_speech,
    silence,
    sound,
)

STORY = "once upon a time there was, a very small house and in it lived nobody at all."
IDLE_S = 600.0
RATE = 24_000  # of the sessions here: that of her voice, so that sound is compared as it is


class Scene:
    """One session: what is heard, who hears and answers, and what the client gets."""

    def __init__(self, voice: TalkingSessions, speech: Speech, clock: ScriptedClock) -> None:
        self.voice = voice
        self.clock = clock
        self.line = Line()
        self.ears, self.mouth, self.judge = speech.transcriber, speech.speaker, speech.judge
        self.conversation: Conversation
        self.session_id = ""

    async def say(self, *parts: Samples) -> None:
        whole = np.concatenate(parts)
        for at in range(0, len(whole), 720):
            await self.conversation.hear(to_pcm(whole[at : at + 720]))

    async def until(self, kind: str) -> list[Frame]:
        return await asyncio.wait_for(self.line.until(kind), 60)

    def hears(self, *texts: str) -> None:
        assert isinstance(self.ears, ScriptedTranscriber)
        self.ears.texts = list(texts)

    async def speaking(self, seconds: float) -> None:
        """She answers, and so much of it was heard."""
        self.hears(STORY)
        self.clock.stop_in(seconds)
        await self.say(said(900), quiet(400))
        await asyncio.wait_for(self.line.until_sound(int(seconds * RATE) * 2), 60)


def said(ms: float) -> Samples:
    return sound(ms, RATE)


def quiet(ms: float) -> Samples:
    return silence(ms, RATE)


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as opened:
        yield opened


@asynccontextmanager
async def playing(
    responder: Responder,
    db: Database,
    settles: Settles,
    user_id: str = "owner",
    **configured: Any,
) -> AsyncIterator[Scene]:
    """Talk with `responder` until left."""
    speech = scripted_speech(ScriptedTranscriber(STORY), ScriptedJudge())
    clock = ScriptedClock()
    config = Pipecat(idle_timeout_s=IDLE_S, **configured)
    async with open_voice(config, responder, speech, db, settles, clock=clock) as voice:
        scene = Scene(voice, speech, clock)
        start = StartSession(sample_rate=RATE, user_id=user_id)
        session = await voice.start(start, ws_url="")
        scene.session_id = session.session_id
        scene.conversation = voice.conversation(session, scene.line)
        yield scene
        await scene.conversation.leave()


@pytest.fixture
async def scene(echo: Echo, db: Database) -> AsyncIterator[Scene]:
    async with playing(echo, db, Unasked()) as scene:
        yield scene


def kinds(frames: list[Frame]) -> list[str]:
    return [frame.type for frame in frames]


def data(frames: list[Frame], kind: str) -> list[dict[str, Any]]:
    return [frame.data for frame in frames if frame.type == kind]


async def test_what_is_said_is_answered_aloud(scene: Scene, echo: Echo) -> None:
    await scene.say(quiet(300), said(800), quiet(400))
    frames = await scene.until("TURN_METRICS")

    seen = [kind for kind in kinds(frames) if kind != "RESPONSE_DELTA"]
    assert seen == [
        "SPEECH_STARTED",
        "PARTIAL_TRANSCRIPT",
        "SPEECH_STOPPED",
        "TRANSCRIPT",
        "AUDIO_DONE",
        "MESSAGE",
        "TURN_METRICS",
    ]
    (transcript,) = data(frames, "TRANSCRIPT")
    assert transcript["text"] == echo.requests[0].text == STORY
    assert transcript["start_ms"] == pytest.approx(300, abs=40)
    assert transcript["end_ms"] == pytest.approx(1100, abs=40)
    spoken_s = len(scene.line.sound) / 2 / RATE
    assert spoken_s == pytest.approx(len(STORY.split()) * WORD_S, abs=1)
    assert frames[-1].data["voice_to_voice_ms"] > 0
    assert echo.expected == [scene.session_id]


async def test_what_is_said_at_length_is_understood_while_it_goes_on(
    scene: Scene, echo: Echo
) -> None:
    await scene.say(said(1500))
    begun = await scene.until("PARTIAL_TRANSCRIPT")
    so_far = await asyncio.wait_for(echo.understood.get(), 60)
    await scene.say(said(300), quiet(400))
    frames = await scene.until("TRANSCRIPT")

    assert kinds(begun) == ["SPEECH_STARTED", "PARTIAL_TRANSCRIPT"]
    assert so_far == STORY
    assert data(frames, "TRANSCRIPT")[0]["end_ms"] == pytest.approx(1800, abs=40)


async def test_a_client_that_sends_json_gets_its_sound_as_json(scene: Scene) -> None:
    pcm = to_pcm(np.concatenate([said(800), quiet(400)]))

    await scene.conversation.hear(message("AUDIO", audio=base64.b64encode(pcm).decode()))
    frames = await scene.until("AUDIO_DONE")

    audio = data(frames, "AUDIO")
    assert [one["seq"] for one in audio] == list(range(len(audio)))
    assert {one["sample_rate"] for one in audio} == {RATE}
    assert json.loads(json.dumps(len(audio[0]["audio"]))) > 0
    assert scene.line.sound == b""


async def test_a_short_pause_is_no_end(scene: Scene, echo: Echo) -> None:
    await scene.say(said(600), quiet(120), said(600), quiet(400))
    frames = await scene.until("TRANSCRIPT")

    assert kinds(frames).count("SPEECH_STARTED") == 1
    assert data(frames, "TRANSCRIPT")[0]["end_ms"] == pytest.approx(1320, abs=40)


async def test_who_has_not_finished_is_waited_for(scene: Scene) -> None:
    assert isinstance(scene.judge, ScriptedJudge)
    scene.judge.answers = [0.1, 0.1]

    await scene.say(said(600), quiet(500))
    for _ in range(2):
        await asyncio.wait_for(scene.judge.asked.acquire(), 60)
    await scene.say(said(600), quiet(400))
    frames = await scene.until("TRANSCRIPT")

    assert data(frames, "TRANSCRIPT")[0]["end_ms"] == pytest.approx(1700, abs=40)


async def test_silence_ends_a_turn_whatever_the_judge_says(scene: Scene) -> None:
    assert isinstance(scene.judge, ScriptedJudge)
    scene.judge.answers = [0.0] * 50

    await scene.say(said(600), quiet(2000))

    assert data(await scene.until("TRANSCRIPT"), "TRANSCRIPT")


async def test_a_client_ends_its_turn_itself(scene: Scene) -> None:
    await scene.say(said(600))
    await scene.until("SPEECH_STARTED")

    await scene.conversation.hear(message("END_TURN"))
    await scene.until("TRANSCRIPT")
    await scene.conversation.hear(message("INTERRUPT"))
    await scene.conversation.hear(message("END_TURN"))

    assert (await scene.until("STATUS"))[-1].data == {"state": "NOTHING_HEARD"}


async def test_noise_without_words_is_not_answered(scene: Scene, echo: Echo) -> None:
    scene.hears("")
    await scene.say(said(600), quiet(400))
    await scene.until("SPEECH_STOPPED")
    scene.hears(STORY)

    await scene.say(said(600), quiet(400))
    await scene.until("TRANSCRIPT")

    assert len(echo.requests) <= 1


async def test_an_interruption_stops_her_and_tells_what_was_heard(scene: Scene, echo: Echo) -> None:
    await scene.speaking(2.0)
    scene.hears("no wait, stop")

    await scene.say(said(900), quiet(400))
    frames = await scene.until("INTERRUPTED")
    await scene.clock.go_on()
    after = await scene.until("AUDIO_DONE")

    heard = frames[-1].data["spoken_text"]
    assert STORY.startswith(heard)
    assert 6 <= len(heard.split()) <= 11
    assert data(frames, "TRANSCRIPT")[0]["text"] == STORY
    assert data(after, "TRANSCRIPT")[0]["text"] == "no wait, stop"


async def test_an_interruption_is_asked_for(scene: Scene) -> None:
    await scene.speaking(1.0)

    await scene.conversation.hear(message("INTERRUPT"))
    frames = await scene.until("INTERRUPTED")

    assert 2 <= len(frames[-1].data["spoken_text"].split()) <= 6


@pytest.mark.parametrize("words", ["Uh-huh.", "Yeah, okay.", ""])
async def test_a_listeners_small_words_do_not_stop_her(scene: Scene, words: str) -> None:
    await scene.speaking(1.0)
    scene.hears(words)

    await scene.say(said(700), quiet(400))
    await scene.clock.go_on()
    frames = await scene.until("MESSAGE")

    assert "INTERRUPTED" not in kinds(frames)
    assert kinds(frames).count("TRANSCRIPT") == 1


@pytest.mark.parametrize("level_db", [-10, -20, -30])
async def test_her_own_voice_neither_stops_her_nor_is_answered(
    scene: Scene, echo: Echo, level_db: int
) -> None:
    await scene.speaking(1.5)
    scene.hears("there was a very small house")
    back = from_pcm(scene.line.sound)[-int(1.2 * RATE) :] * np.float32(10 ** (level_db / 20))

    await scene.say(back, quiet(500))
    await scene.clock.go_on()
    frames = await scene.until("MESSAGE")

    assert "INTERRUPTED" not in kinds(frames)
    assert len(echo.requests) == 1


async def test_ears_that_fail_cost_an_apology_and_not_the_session(scene: Scene, echo: Echo) -> None:
    assert isinstance(scene.ears, ScriptedTranscriber)
    scene.ears.failing = Unavailable("The ears are ringing.")
    await scene.say(said(600), quiet(400))
    failed = await scene.until("AUDIO_DONE")
    apology_s = len(scene.line.sound) / 2 / RATE
    scene.ears.failing = None

    await scene.say(said(600), quiet(400))
    answered = await scene.until("MESSAGE")

    assert data(failed, "ERROR")[0]["message"] == "The ears are ringing."
    assert apology_s == pytest.approx(7 * WORD_S, abs=0.2)
    assert data(answered, "MESSAGE")[0]["text"].split() == STORY.split()


async def test_a_voice_that_fails_costs_an_apology_and_not_the_answer(scene: Scene) -> None:
    assert isinstance(scene.mouth, ScriptedSpeaker)
    await scene.say(said(600), quiet(400))
    await scene.until("MESSAGE")
    scene.mouth.failing = Unavailable("Hoarse.")

    await scene.say(said(600), quiet(400))
    failed = await scene.until("MESSAGE")
    scene.mouth.failing = None
    await scene.say(said(600), quiet(400))
    answered = await scene.until("MESSAGE")

    assert [one["message"] for one in data(failed, "ERROR")] == ["Hoarse."]
    assert not data(answered, "ERROR")


async def test_a_written_message_in_a_spoken_session_is_answered_aloud(scene: Scene) -> None:
    await scene.say(quiet(100))

    await scene.conversation.hear(message("MESSAGE", text="good morning to you"))
    await scene.until("AUDIO_DONE")

    assert len(scene.line.sound) / 2 / VOICE_RATE == pytest.approx(4 * WORD_S, abs=0.3)


async def test_what_was_said_and_heard_is_kept_and_forgotten_with_the_person(
    scene: Scene, db: Database
) -> None:
    await scene.speaking(1.0)
    await scene.conversation.hear(message("INTERRUPT"))
    frames = await scene.until("TURN_METRICS")

    (kept,) = await scene.voice.turns(scene.session_id)
    scope = Scope(receipt="fgt_1", users={"owner"}, persons={"owner"})
    counts = await db.write(lambda c: erase(c, scope, PLACES).counts)

    assert kept.text == STORY
    assert kept.heard == data(frames, "INTERRUPTED")[0]["spoken_text"]
    assert not kept.complete
    assert kept.metrics == frames[-1].data
    assert counts == {"spoken_turns": 1}
    assert await scene.voice.turns(scene.session_id) == ()


async def test_a_session_in_which_nobody_speaks_is_closed(scene: Scene) -> None:
    async with scene.voice.talk(scene.session_id, scene.conversation):
        await scene.clock.sleep(IDLE_S - 1)
        await scene.voice.sweep()
        await scene.say(said(600), quiet(400))
        await scene.until("MESSAGE")
        await scene.clock.sleep(IDLE_S - 1)
        await scene.voice.sweep()
        before = (await scene.voice.session(scene.session_id)).state
        await scene.clock.sleep(60)

        await scene.voice.sweep()

    goodbye = (await scene.until("SESSION_STOP"))[-1]
    assert before == "ACTIVE"
    assert goodbye.data == {"reason": "nobody spoke for 600 s"}
    assert (await scene.voice.session(scene.session_id)).state == "CLOSED"


async def test_a_session_that_nobody_connects_to_is_closed_too(scene: Scene) -> None:
    await scene.clock.sleep(IDLE_S + 1)

    await scene.voice.sweep()

    assert (await scene.voice.session(scene.session_id)).state == "CLOSED"


async def test_who_was_cut_off_goes_on_in_the_same_session(scene: Scene, echo: Echo) -> None:
    async with scene.voice.talk(scene.session_id, scene.conversation):
        await scene.speaking(1.0)
        await scene.conversation.leave()
    session = await scene.voice.session(scene.session_id)
    scene.conversation = scene.voice.conversation(session, scene.line)
    await scene.clock.go_on()

    async with scene.voice.talk(scene.session_id, scene.conversation):
        await scene.say(said(600), quiet(400))
        await scene.until("AUDIO_DONE")

    assert [request.session_id for request in echo.requests] == [scene.session_id] * 2


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
async def test_every_rate_is_heard_and_spoken_at(scene: Scene, rate: int) -> None:
    start = msgspec.convert({"sample_rate": rate}, StartSession)
    session = await scene.voice.start(start, ws_url="")
    scene.conversation = scene.voice.conversation(session, scene.line)

    whole = np.concatenate([sound(800, rate), silence(500, rate)])
    await scene.conversation.hear(to_pcm(whole))
    frames = await scene.until("AUDIO_DONE")
    await scene.conversation.leave()

    (transcript,) = data(frames, "TRANSCRIPT")
    assert transcript["end_ms"] == pytest.approx(800, abs=70)
    spoken_s = len(scene.line.sound) / 2 / rate
    assert spoken_s == pytest.approx(len(STORY.split()) * WORD_S, abs=1)


async def test_an_engine_that_hangs_is_given_up_for_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class NoWeights:
        async def ensure(self, name: str) -> dict[str, Path]:
            return {}

        def progress(self, name: str) -> Progress:
            raise AssertionError

    monkeypatch.setattr(loading, "STUCK_S", -1.0)
    built: list[object] = []
    engine = loading.Engine(NoWeights(), ("voice",), lambda _: built.append(object()) or built[-1])
    begun, hung = threading.Event(), threading.Event()
    stuck = asyncio.create_task(engine.run(lambda _: (begun.set(), hung.wait())))
    await asyncio.to_thread(begun.wait)

    answer = await engine.run(lambda loaded: loaded)

    assert answer is built[1]
    hung.set()
    await stuck
    await engine.close()


async def test_a_reminder_is_told_and_said_to_its_person_only(scene: Scene) -> None:
    await scene.say(quiet(100))
    due = ReminderDue(task_id="task_1", user_id="owner", text="take the eggs off", at=now())
    anas = ReminderDue(task_id="task_2", user_id="ana", text="call the bank", at=now())

    async with scene.voice.talk(scene.session_id, scene.conversation):
        others = await scene.voice.remind(anas)
        told = await scene.voice.remind(due)
        frames = await scene.until("AUDIO_DONE")

    assert (others, told) == (None, "voice session")
    assert [one["text"] for one in data(frames, "MESSAGE")] == ["take the eggs off"]
    assert len(scene.line.sound) / 2 / VOICE_RATE == pytest.approx(4 * WORD_S, abs=0.3)
