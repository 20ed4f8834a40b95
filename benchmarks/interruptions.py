"""What stops her and what doesn't: `python -m benchmarks.interruptions`.

A real server with its weights tells a story; over it comes her own voice as a microphone beside a
loudspeaker hears it (with a room's reverberation, at -10, -20 and -30 dB), a listener's "uh-huh",
a cough, music, and somebody who really interrupts. Printed for each: how often she was stopped, how
often the sound was taken for something said, and, where she was stopped, how long after the
beginning of the sound the last of her voice came. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soxr

from benchmarks.voice_to_voice import (
    MESSAGE_S,
    SETTLE_S,
    Client,
    serving,
    session,
    until_ready,
)
from sonia.config import Config
from sonia.voice import EAR_RATE, Samples, open_speech
from sonia.voice.speech import VOICE_RATE, from_pcm, to_pcm
from sonia.weights import Weights

QUESTION = "Please tell me a long story about a lighthouse."
DELAY_S = 0.08
OVER_S = 5.0
STEP = int(EAR_RATE * MESSAGE_S)
Over = Callable[[float, bytes], Samples]  # what is at the microphone now, given her voice so far


async def spoken(text: str, voice: str) -> Samples:
    """Somebody says this; 16,000 samples a second."""
    weights = Weights(Config().models)
    names = [file.path for file in weights.entry("kokoro-voices").files]
    async with open_speech(weights, names) as speech:
        whole = np.concatenate([part async for part in speech.speaker.speak(text, voice=voice)])
    return np.asarray(soxr.resample(whole, VOICE_RATE, EAR_RATE), np.float32)


def once(clip: Samples) -> Over:
    """A clip, from the first moment on."""
    return lambda at_s, _: np.pad(clip, (0, STEP * 400))[int(at_s * EAR_RATE) :][:STEP]


def echo(level_db: float) -> Over:
    """Her voice, as it comes back."""
    room = np.zeros(int(0.05 * EAR_RATE), np.float32)
    room[0] = 1.0
    room[1:] = np.random.default_rng(1).normal(0, 0.15, len(room) - 1)
    room *= np.exp(-np.arange(len(room)) / (0.012 * EAR_RATE)).astype(np.float32)

    def at_microphone(at_s: float, hers: bytes) -> Samples:
        tail = from_pcm(hers)[-int(0.5 * EAR_RATE) :]
        reverberant = np.convolve(tail, room)[: len(tail)] * 10 ** (level_db / 20)
        return np.asarray(reverberant[-STEP:], np.float32)

    return at_microphone


def music() -> Samples:
    """Chords, for four seconds."""
    at = np.arange(4 * EAR_RATE) / EAR_RATE
    sound = sum(
        np.sin(2 * np.pi * hz * at) * (1 + np.sin(2 * np.pi * 2 * at)) for hz in (220, 277, 330)
    )
    return np.asarray(0.05 * sound, np.float32)


def cough() -> Samples:
    """A burst of noise."""
    fall = np.exp(-np.arange(int(0.3 * EAR_RATE)) / (0.06 * EAR_RATE))
    return np.asarray(np.random.default_rng(2).normal(0, 0.3, len(fall)) * fall, np.float32)


class Listener(Client):
    """Keeps her voice, and lets something be heard over it."""

    async def over(self, over: Over) -> tuple[bool, bool, float]:
        """Ask, let it come over the answer: stopped?, taken for words?, after how many seconds."""
        self.heard = b""
        self.sound_at.clear()
        await self._send(np.zeros(STEP, np.float32))  # from the first sound on she speaks
        await self._socket.send(json.dumps({"type": "MESSAGE", "data": {"text": QUESTION}}))
        while len(self.heard) < EAR_RATE * 2:
            await self._send(np.zeros(STEP, np.float32))
        began = time.perf_counter()
        for number in range(int(OVER_S / MESSAGE_S)):
            now = over(number * MESSAGE_S, self.heard)
            await self._send(np.pad(now, (0, max(0, STEP - len(now))))[:STEP])
        kinds = []
        while not self.told.empty():
            kinds.append(self.told.get_nowait()["type"])
        last = self.sound_at[-1] - began
        await self._socket.send(json.dumps({"type": "INTERRUPT"}))
        await asyncio.sleep(1)
        return "INTERRUPTED" in kinds, "TRANSCRIPT" in kinds, last

    async def _send(self, samples: Samples) -> None:
        await asyncio.sleep(MESSAGE_S)
        await self._socket.send(to_pcm(samples))


async def run(folder: Path, runs: int) -> None:
    """Every scene."""
    scenes: dict[str, Over] = {f"echo at {db} dB": echo(db) for db in (-10, -20, -30)}
    scenes |= {
        "uh-huh": once(await spoken("Uh-huh.", "am_michael")),
        "yeah, okay": once(await spoken("Yeah, okay.", "bf_emma")),
        "cough": once(cough()),
        "music": once(music()),
        "interruption": once(await spoken("Wait, please stop and tell me the time.", "am_adam")),
    }
    with serving(folder) as ports:
        await until_ready(ports)
        async with session(ports, Listener) as client:
            await asyncio.sleep(SETTLE_S)
            print(
                f"\n{'':<18}{'runs':>5}{'stopped':>9}{'taken for words':>17}{'last sound, ms':>16}"
            )
            for name, over in scenes.items():
                found = [await client.over(over) for _ in range(runs)]
                stops = [last * 1000 for stopped, _, last in found if stopped]
                after = f"{statistics.median(stops):>16.0f}" if stops else ""
                counts = (sum(one[0] for one in found), sum(one[1] for one in found))
                print(f"{name:<18}{runs:>5}{counts[0]:>9}{counts[1]:>17}{after}", flush=True)


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="of each scene (default: 3)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), args.runs))


if __name__ == "__main__":
    main()
