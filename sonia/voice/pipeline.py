"""A spoken conversation as a pipecat pipeline: socket → ears → answer → mouth.

The processors are thin: what they do is in `ears.py`, `answering.py` and `playback.py`. What
pipecat gives is the order of frames, and interruption: an `InterruptionFrame` cancels the frame
that a processor is at work on, and cancelling an answer is leaving its turn.

Only this file imports pipecat, and it is imported with the first spoken session.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from loguru import logger

from sonia.log import get_logger
from sonia.voice.answering import Speak, Utterance
from sonia.voice.speech import EAR_RATE, VOICE_RATE, Samples, from_pcm, to_pcm

logger.remove()  # pipecat talks to the terminal unless told otherwise
from pipecat.frames.frames import (  # noqa: E402
    Frame,
    InputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # noqa: E402
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor  # noqa: E402
from pipecat.workers.runner import WorkerRunner  # noqa: E402

logger.add(
    lambda message: get_logger("pipecat").warning("pipecat", said=message.record["message"]),
    level="WARNING",
    filter="pipecat",
    format="{message}",
)
Give = Callable[[Utterance, Speak], Awaitable[None]]


class Parts(msgspec.Struct, frozen=True, kw_only=True):
    """What the processors do: listen, answer, and send what is to be heard."""

    hear: Callable[[Samples], Awaitable[None]]
    give: Give
    send: Callable[[], Awaitable[None]]


WAITING_FRAMES = 32  # of sound that nobody has listened to yet; the client waits


class SocketInput(FrameProcessor):
    """Where a client's sound comes in, at 16,000 samples a second."""

    def __init__(self) -> None:
        super().__init__()
        self.room = asyncio.Semaphore(WAITING_FRAMES)

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Everything goes on."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)

    async def hear(self, samples: Samples) -> None:
        """Send sound down the pipeline; waits while too much of it waits."""
        await self.room.acquire()
        pcm = to_pcm(samples)
        await self.push_frame(InputAudioRawFrame(audio=pcm, sample_rate=EAR_RATE, num_channels=1))


class Ear(FrameProcessor):
    """Sound in, what was said out."""

    def __init__(self, hear: Callable[[Samples], Awaitable[None]], room: asyncio.Semaphore) -> None:
        super().__init__()
        self._hear = hear
        self._room = room

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Sound ends here."""
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self._room.release()
            await self._hear(from_pcm(frame.audio))
        else:
            await self.push_frame(frame, direction)


class Answerer(FrameProcessor):
    """What was said in, her voice out. An interruption cancels the answer."""

    def __init__(self, give: Give) -> None:
        super().__init__()
        self._give = give

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Answer what was said, to the last word heard."""
        await super().process_frame(frame, direction)
        await self.push_frame(frame, direction)
        if isinstance(frame, TranscriptionFrame):
            await self._give(frame.result, self._add)

    async def _add(self, samples: Samples) -> None:
        pcm = to_pcm(samples)
        await self.push_frame(TTSAudioRawFrame(audio=pcm, sample_rate=VOICE_RATE, num_channels=1))


class Mouth(FrameProcessor):
    """Her voice in, paced to the client."""

    def __init__(self, send: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self._send = send

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Sound is sent in real time."""
        await super().process_frame(frame, direction)
        if isinstance(frame, TTSAudioRawFrame):
            await self._send()
        await self.push_frame(frame, direction)


class Line:
    """A running pipeline."""

    def __init__(self, parts: Parts) -> None:
        self._input = SocketInput()
        self._ear = Ear(parts.hear, self._input.room)
        self.processors = [self._input, self._ear, Answerer(parts.give), Mouth(parts.send)]

    async def hear(self, samples: Samples) -> None:
        """Somebody's sound."""
        await self._input.hear(samples)

    async def take(self, said: Utterance, user_id: str) -> None:
        """Somebody's words: answer them, after what is being answered."""
        await self._ear.push_frame(
            TranscriptionFrame(text=said.text, user_id=user_id, timestamp="", result=said)
        )

    async def interrupt(self) -> None:
        """Cancel what is being answered and all that waits for it."""
        await self._ear.broadcast_interruption()


@asynccontextmanager
async def open_line(parts: Parts) -> AsyncIterator[Line]:
    """Run a pipeline until left; leaving cancels what it does."""
    line = Line(parts)
    worker = PipelineWorker(
        Pipeline(line.processors),
        params=PipelineParams(
            audio_in_sample_rate=EAR_RATE, audio_out_sample_rate=VOICE_RATE, enable_metrics=False
        ),
        enable_rtvi=False,
        enable_turn_tracking=False,
        idle_timeout_secs=None,
        check_dangling_tasks=False,
    )
    started = asyncio.Event()

    @worker.event_handler("on_pipeline_started")
    async def _(*_: Any) -> None:
        started.set()

    runner = WorkerRunner(handle_sigint=False, check_dangling_tasks=False)
    await runner.add_workers(worker)
    running = asyncio.create_task(runner.run(), name="spoken session")
    try:
        waiting = asyncio.create_task(started.wait())
        await asyncio.wait({waiting, running}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        yield line
    finally:
        await runner.cancel()
        await asyncio.gather(running, return_exceptions=True)
