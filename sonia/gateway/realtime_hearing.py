"""The input buffer of a realtime session: sound in, turns of speech out, written down."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from sonia.envelope import describe, translate
from sonia.errors import InvalidRequest, SoniaError
from sonia.gateway.realtime_response import LAWS, Scene
from sonia.gateway.realtime_session import Format, Settings, Vad
from sonia.types import new_id
from sonia.voice import (
    EAR_RATE,
    Asks,
    Attention,
    Began,
    Ended,
    Hearing,
    Paused,
    Resampler,
    Samples,
    Transcript,
    WentOn,
    decoded_g711,
    from_pcm,
    heard,
)

COMPLETE = 0.5  # from this probability on, the judge's word is that somebody has finished


class Buffer:
    """What a client sends to be heard.

    `began` is told when somebody starts to speak, `said` when a turn has become an item of the
    conversation. `longest_s` bounds what is held while nobody commits it.
    """

    def __init__(
        self,
        scene: Scene,
        settings: Settings,
        *,
        began: Callable[[], Awaitable[None]],
        said: Callable[[bool], Awaitable[None]],
        longest_s: float,
    ) -> None:
        self._scene = scene
        self._settings = settings
        self._began = began
        self._said = said
        self._most = int(longest_s * EAR_RATE)
        self._held: list[Samples] = []
        self._item_id = new_id("item")
        self._guess: asyncio.Task[Transcript] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._in_turn = asyncio.Lock()
        self._resampler, self._attention = self._listening(settings)

    def set(self, settings: Settings) -> None:
        """Listen as `settings` say from now on; what is held stays."""
        before, self._settings = self._settings, settings
        if (before.heard, before.vad) != (settings.heard, settings.vad):
            self._resampler, self._attention = self._listening(settings)

    async def append(self, audio: Any) -> None:
        """Hear more. Raises `InvalidRequest` for what is no sound."""
        sound = self._resampler.feed(read_sound(audio, self._settings.heard))
        if self._attention is None:
            if sum(map(len, self._held)) + len(sound) > self._most:
                raise InvalidRequest(
                    f"At most {self._most // EAR_RATE} s are held. Commit or clear them first."
                )
            self._held.append(sound)
            return
        for noticed in await self._attention.feed(sound):
            match noticed:
                case Began():
                    await self._begin(noticed)
                case Paused():
                    self._guess = self._start(self._write_down(noticed.samples))
                case WentOn():
                    self._drop_guess()
                case Asks():
                    self._start(self._ask(noticed.samples, self._guess))
                case Ended():
                    await self._end(noticed)

    async def commit(self) -> None:
        """What is held is a turn. Raises `InvalidRequest` when that is nothing."""
        ended = self._attention.settle() if self._attention else None
        if ended:
            await self._end(ended, asked=True)
            return
        sound = np.concatenate([np.empty(0, np.float32), *self._held])
        if len(sound) < EAR_RATE // 10:
            raise InvalidRequest("There is nothing to commit: send at least 100 ms of sound first.")
        self._held.clear()
        self._conclude(sound, self._start(self._write_down(sound)), asked=True)

    def clear(self) -> None:
        """Forget what is held."""
        self._held.clear()
        self._drop_guess()
        if self._attention:
            self._attention.settle()

    async def add(self, item: dict[str, Any]) -> None:
        """Write down the sound in an item that a client adds."""
        for part in item.get("content", ()):
            if audio := part.pop("audio", None):
                resampler = Resampler(self._settings.heard.rate_hz, EAR_RATE)
                begun = resampler.feed(read_sound(audio, self._settings.heard))
                sound = np.concatenate([begun, resampler.end()])
                part["transcript"] = (await self._write_down(sound)).text

    async def close(self) -> None:
        """Stop listening."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- turns ---------------------------------------------------------------------------

    def _listening(self, settings: Settings) -> tuple[Resampler, Attention | None]:
        vad: Vad | None = settings.vad
        stream = self._scene.speech.detector.stream
        attention = Attention(stream(), vad.patience, max(vad.threshold, 0.2)) if vad else None
        return Resampler(settings.heard.rate_hz, EAR_RATE), attention

    async def _begin(self, began: Began) -> None:
        self._item_id = new_id("item")
        await self._scene.tell(
            "input_audio_buffer.speech_started",
            audio_start_ms=round(began.at_ms),
            item_id=self._item_id,
        )
        await self._began()

    async def _ask(self, samples: Samples, guess: asyncio.Task[Transcript] | None) -> None:
        if self._settings.vad is None or self._settings.vad.type != "semantic_vad":
            return
        finished = await self._scene.speech.judge.finished(samples) >= COMPLETE
        if finished and guess is self._guess and self._attention:
            ended = self._attention.settle()
            if ended:
                await self._end(ended)

    async def _end(self, ended: Ended, *, asked: bool = False) -> None:
        await self._scene.tell(
            "input_audio_buffer.speech_stopped",
            audio_end_ms=round(ended.end_ms),
            item_id=self._item_id,
        )
        guess, self._guess = self._guess, None
        guess = guess or self._start(self._write_down(ended.samples))
        self._conclude(ended.samples, guess, asked=asked)

    def _conclude(self, sound: Samples, guess: asyncio.Task[Transcript], *, asked: bool) -> None:
        item_id, self._item_id = self._item_id, new_id("item")
        self._start(self._turn(item_id, len(sound) / EAR_RATE, guess, asked=asked))

    async def _turn(
        self, item_id: str, seconds: float, guess: asyncio.Task[Transcript], *, asked: bool
    ) -> None:
        tell, items = self._scene.tell, self._scene.items
        part: dict[str, Any] = {"type": "input_audio", "transcript": None}
        item = {
            "id": item_id,
            "object": "realtime.item",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [part],
        }
        async with self._in_turn:
            previous = items.add(item)
            await tell("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
            await tell("conversation.item.added", previous_item_id=previous, item=item)
            where = {"item_id": item_id, "content_index": 0}
            kind = "conversation.item.input_audio_transcription"
            try:
                written = await guess
            except SoniaError as error:
                told = describe(error)
                wrong = {"type": told.code, "code": told.code, "message": told.message}
                await tell(f"{kind}.failed", **where, error=wrong)
                return
            part["transcript"] = written.text
            if self._settings.transcription:
                usage = {"type": "duration", "seconds": round(seconds, 2)}
                await tell(f"{kind}.delta", **where, delta=written.text)
                await tell(f"{kind}.completed", **where, transcript=written.text, usage=usage)
            await tell("conversation.item.done", item=item)
            if written.text:
                await self._said(asked)

    # --- words ---------------------------------------------------------------------------

    async def _write_down(self, sound: Samples) -> Transcript:
        wanted = self._settings.transcription
        hearing = Hearing(
            language=(wanted.language if wanted else None) or None,
            prompt=(wanted.prompt if wanted else None) or "",
        )
        try:
            return await heard(self._scene.speech.transcriber, sound, hearing)
        except SoniaError:
            raise
        except Exception as error:
            raise translate(error) from error

    def _drop_guess(self) -> None:
        if self._guess:
            self._guess.cancel()
        self._guess = None

    def _start(self, work: Any) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._over)
        return task

    def _over(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # what failed is told where it is awaited


def read_sound(audio: Any, form: Format) -> Samples:
    """Base64 of `form`, at its rate. Raises `InvalidRequest`."""
    if not isinstance(audio, str):
        raise InvalidRequest("audio has to be base64, in a string.", param="audio")
    try:
        coded = base64.b64decode(audio, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest("audio is no base64.", param="audio") from error
    if form.type in LAWS:
        return decoded_g711(coded, LAWS[form.type])
    if len(coded) % 2:
        raise InvalidRequest("audio ends in the middle of a 16-bit sample.", param="audio")
    return from_pcm(coded)
