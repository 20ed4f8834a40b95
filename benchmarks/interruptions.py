"""What stops her and what doesn't: `python -m benchmarks.interruptions`.

A real server with its weights explains something; over it comes her own voice as a microphone
beside a loudspeaker hears it (reverberant, at -10, -20 and -30 dB), a listener's "uh-huh", a cough,
music, and somebody who really interrupts. Printed for each: how often she was stopped, what the
sound was taken for, and, where she was stopped, how long after the beginning of the sound the last
of her voice came. In the end: which share of what was no interruption stopped her, which share of
the interruptions did not, and how soon the others did. Asserts nothing.
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

QUESTION = "Please explain what a database is."
DELAY_S = 0.08
OVER_S = 5.0
BEGUN = EAR_RATE // 2  # so many samples of her voice are there when something comes over it
STEP = int(EAR_RATE * MESSAGE_S)
MEANT = ("interruption",)
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
        end = BEGUN + int((at_s + MESSAGE_S - DELAY_S) * EAR_RATE)
        tail = from_pcm(hers[: 2 * end])[-len(room) - STEP :]
        if len(hers) < 2 * end:
            return np.zeros(STEP, np.float32)
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

    async def over(self, over: Over) -> tuple[bool, str, float]:
        """Ask, let it come over the answer: stopped?, taken for what?, after how many seconds."""
        while not await self._begun():
            pass
        began = time.perf_counter()
        for number in range(int(OVER_S / MESSAGE_S)):
            now = over(number * MESSAGE_S, self.heard)
            await self._send(now, began + number * MESSAGE_S)
        told = []
        while not self.told.empty():
            told.append(self.told.get_nowait())
        last = self.sound_at[-1] - began
        await self._socket.send(json.dumps({"type": "INTERRUPT"}))
        await asyncio.sleep(1)
        words = [one["data"]["text"] for one in told if one["type"] == "TRANSCRIPT"]
        return any(one["type"] == "INTERRUPTED" for one in told), " ".join(words), last

    async def _begun(self) -> bool:
        """Ask; whether she speaks (and did not fail, or say a single word)."""
        self.heard = b""
        self.sound_at.clear()
        while not self.told.empty():
            self.told.get_nowait()
        await self._send(np.zeros(STEP, np.float32))  # from the first sound on she speaks
        await self._socket.send(json.dumps({"type": "MESSAGE", "data": {"text": QUESTION}}))
        while len(self.heard) < 2 * BEGUN:
            await self._send(np.zeros(STEP, np.float32))
            while not self.told.empty():
                if self.told.get_nowait()["type"] == "TURN_METRICS":
                    return False
        return True

    async def _send(self, samples: Samples, due: float | None = None) -> None:
        wait_s = MESSAGE_S if due is None else due - time.perf_counter()
        await asyncio.sleep(max(0.0, wait_s))
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
            heads = ("", "runs", "stopped", "last sound, ms")
            print("\n{:<18}{:>5}{:>9}{:>16}  taken for".format(*heads))
            all_found: dict[str, list[tuple[bool, float]]] = {}
            for name, over in scenes.items():
                found = [await client.over(over) for _ in range(runs)]
                all_found[name] = [(stopped, last * 1000) for stopped, _, last in found]
                stops = [last * 1000 for stopped, _, last in found if stopped]
                after = f"{statistics.median(stops):.0f}" if stops else ""
                words = " / ".join(one[1] for one in found if one[1])
                print(f"{name:<18}{runs:>5}{len(stops):>9}{after:>16}  {words}", flush=True)
            print(summed(all_found))


def summed(found: dict[str, list[tuple[bool, float]]]) -> str:
    """The rates, and the stops that were meant."""
    false = [stopped for name, runs in found.items() if name not in MEANT for stopped, _ in runs]
    meant = [run for name in MEANT for run in found[name]]
    stops = sorted(last for stopped, last in meant if stopped) or [float("nan")]
    missed = sum(not stopped for stopped, _ in meant)
    return (
        f"\nfalse stops {sum(false)} of {len(false)}, missed {missed} "
        f"of {len(meant)}; stopped after {statistics.median(stops):.0f} ms (median), "
        f"{stops[min(len(stops) - 1, int(0.95 * len(stops)))]:.0f} ms (p95)"
    )


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
