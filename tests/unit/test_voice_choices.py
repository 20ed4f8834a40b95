"""What a session asks for itself: its codec, its speed."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import numpy as np
import pytest

from sonia.voice import StartSession
from sonia.voice.opus import OpusDecoder, OpusEncoder
from sonia.voice.speech import to_pcm
from tests.unit.test_voice_conversation import Line, message
from tests.unit.test_voice_spoken import STORY, Scene, data, db, echo, scene
from tests.voice_given import WORD_S, silence, sound

__all__ = ["db", "echo", "scene"]  # fixtures
STORY_S = len(STORY.split()) * WORD_S


class Packets(Line):
    """A client that keeps each binary message by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.packets: list[bytes] = []

    async def __call__(self, frame: Any) -> None:
        if isinstance(frame, bytes):
            self.packets.append(frame)
        await super().__call__(frame)


async def begun(scene: Scene, line: Line, **asked: Any) -> None:
    session = await scene.voice.start(msgspec.convert(asked, StartSession), ws_url="")
    scene.line = line
    scene.conversation = scene.voice.conversation(session, line)
    await scene.conversation.greet()


@pytest.mark.parametrize("rate", [8000, 16_000, 24_000, 48_000])
async def test_opus_is_heard_and_spoken_at_every_rate(scene: Scene, rate: int) -> None:
    client = Packets()
    await begun(scene, client, codec="opus", sample_rate=rate)

    for packet in OpusEncoder(rate).feed(np.concatenate([sound(800, rate), silence(600, rate)])):
        await scene.conversation.hear(packet)
    frames = await scene.until("AUDIO_DONE")
    await scene.conversation.leave()

    decoder = OpusDecoder()
    hers = np.concatenate([decoder.feed(packet) for packet in client.packets])
    (transcript,) = data(frames, "TRANSCRIPT")
    assert data(frames, "STATUS")[0]["codec"] == "opus"
    assert transcript["end_ms"] == pytest.approx(800, abs=120)
    assert len(hers) / 48_000 == pytest.approx(STORY_S, abs=1)
    assert np.abs(hers).max() > 0.05


async def test_what_is_no_opus_is_told_and_the_session_goes_on(scene: Scene) -> None:
    await begun(scene, Packets(), codec="opus", sample_rate=16_000)

    await scene.conversation.hear(b"RIFF....WAVE")
    refused = await scene.until("ERROR")
    await scene.conversation.hear(message("PING"))
    await scene.until("PONG")
    await scene.conversation.leave()

    assert "Opus" in refused[-1].data["message"]


@pytest.mark.parametrize("speed", [0.5, 2.0])
async def test_a_session_is_spoken_to_at_its_own_speed(scene: Scene, speed: float) -> None:
    await begun(scene, Line(), speed=speed, sample_rate=24_000)

    await scene.conversation.hear(
        to_pcm(np.concatenate([sound(800, 24_000), silence(500, 24_000)]))
    )
    await asyncio.wait_for(scene.line.until("AUDIO_DONE"), 60)
    await scene.conversation.leave()

    assert len(scene.line.sound) / 48_000 == pytest.approx(STORY_S / speed, abs=1)


@pytest.mark.parametrize("wrong", [{"speed": 3}, {"speed": 0.1}, {"codec": "mp3"}])
def test_what_can_not_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=next(iter(wrong))):
        msgspec.convert(wrong, StartSession)
