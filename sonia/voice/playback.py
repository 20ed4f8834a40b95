"""Her voice, sent no faster than it is heard: how else would she know what was heard?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec
import numpy as np

from sonia.voice.speech import VOICE_RATE, Samples

LEAD_S = 0.12  # how far the client is kept ahead, against a stuttering network
AHEAD_S = 5.0  # so much may wait to be sent; more is not spoken yet
REMEMBERED_S = 3.0

Write = Callable[[Samples], Awaitable[None]]


class Clock(Protocol):
    """Time, and waiting for it to pass."""

    def now(self) -> float:
        """Seconds since some moment."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return when so many have passed."""
        ...


class WallClock:
    """The real one."""

    def now(self) -> float:
        """See `Clock.now`."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        await asyncio.sleep(seconds)


class _Clause(msgspec.Struct):
    """`text` is spoken within the first `speech_s` of `samples`."""

    text: str
    samples: Samples
    speech_s: float
    sent: int = 0


class Playback:
    """What is being said in one session. Pieces of `piece_s` are written in real time."""

    def __init__(self, write: Write, clock: Clock, piece_s: float = 0.032) -> None:
        self._write = write
        self._clock = clock
        self._piece = max(int(piece_s * VOICE_RATE), 1)
        self._clauses: list[_Clause] = []
        self._due = 0.0  # when the next piece would be heard
        self._played: list[tuple[float, Samples]] = []
        self._changed = asyncio.Condition()
        self._stopped = False
        self._going = asyncio.Event()
        self._going.set()
        self.first_sent_at: float | None = None
        self.first = asyncio.Event()

    @property
    def stopped(self) -> bool:
        """Whether the answer was cut off."""
        return self._stopped

    @property
    def audible(self) -> bool:
        """Whether there is something that was not heard yet."""
        waiting = any(clause.sent < len(clause.samples) for clause in self._clauses)
        return not self._stopped and (waiting or self._clock.now() < self._due)

    def begin(self) -> None:
        """A new answer."""
        self._clauses, self._stopped, self._due = [], False, 0.0
        self.first_sent_at = None
        self.first.clear()
        self._going.set()

    def add(self, text: str, samples: Samples, speech_s: float) -> None:
        """Say this next; `text` is what was heard once `speech_s` have passed."""
        self._clauses.append(_Clause(text=text, samples=samples, speech_s=speech_s))

    async def send(self) -> None:
        """Write what was added and not sent, in real time; returns when it has been."""
        for clause in list(self._clauses):
            while clause.sent < len(clause.samples) and not self._stopped:
                await self._pace()
                if self._stopped:
                    break
                piece = clause.samples[clause.sent : clause.sent + self._piece]
                clause.sent += len(piece)
                self._remember(piece)
                await self._write(piece)
                await self._tell()

    async def room(self) -> None:
        """Return when it makes sense to synthesise more."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopped or self._waiting_s() < AHEAD_S)

    async def finished(self) -> None:
        """Return when all that was added has been heard, or was stopped."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._stopped or not self._waiting_s())
        left = self._due - self._clock.now()
        if left > 0 and not self._stopped:
            await self._clock.sleep(left)

    def hold(self) -> None:
        """Say nothing more for now."""
        self._going.clear()

    def go_on(self) -> None:
        """Say the rest after all."""
        self._going.set()

    async def stop(self) -> str:
        """Say nothing more; what was heard."""
        self._stopped = True
        self._going.set()
        await self._tell()
        return self.heard()

    def heard(self) -> str:
        """The words that were heard, to the last whole one."""
        unheard_s = max(0.0, self._due - self._clock.now())
        left = sum(clause.sent for clause in self._clauses) / VOICE_RATE - unheard_s
        said: list[str] = []
        for clause in self._clauses:
            if left <= 0:
                break
            part = min(1.0, left / clause.speech_s) if clause.speech_s else 1.0
            said.append(clause.text if part >= 1 else _first_words(clause.text, part))
            left -= len(clause.samples) / VOICE_RATE
        return "".join(said)

    def recent(self, since_s: float) -> Samples:
        """What was to be heard from `since_s` on, with silence between, at 24,000 a second."""
        until = max((at + len(part) / VOICE_RATE for at, part in self._played), default=since_s)
        whole = np.zeros(max(int((until - since_s) * VOICE_RATE), 0), np.float32)
        for at, part in self._played:
            start = int((at - since_s) * VOICE_RATE)
            piece = part[max(-start, 0) :]
            start = max(start, 0)
            whole[start : start + len(piece)] = piece[: max(len(whole) - start, 0)]
        return whole

    def _waiting_s(self) -> float:
        return sum(len(item.samples) - item.sent for item in self._clauses) / VOICE_RATE

    async def _pace(self) -> None:
        while True:
            await self._going.wait()
            early = self._due - LEAD_S - self._clock.now()
            if early <= 0 or self._stopped:
                return
            await self._clock.sleep(min(early, 0.05))

    def _remember(self, piece: Samples) -> None:
        now = self._clock.now()
        if self.first_sent_at is None:
            self.first_sent_at = now
            self.first.set()
        at = max(self._due, now)
        self._due = at + len(piece) / VOICE_RATE
        self._played.append((at, piece))
        while self._played[0][0] < now - REMEMBERED_S:
            self._played.pop(0)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


def _first_words(text: str, part: float) -> str:
    """So much of `text`, to the end of a word, by the length of the words."""
    cut = int(len(text) * part)
    if cut >= len(text) or (cut and text[cut].isspace()):
        return text[:cut]
    head, space, _ = text[:cut].rpartition(" ")
    return head if space else ""
