"""Hearing and speaking on this machine: `python -m benchmarks.speech --data FOLDER`.

`FOLDER` holds sound files and a `manifest.json`: a list of `{file, set, lang, text}`, of which
the English rows of the set `wer` are read. Printed: word error rate and real-time factor of
transcription with windows as short as the speech, beside the usual padding to 30 s of the same
engine and weights, clean and with white noise at 10 dB; how many of the recordings were taken for
finished before they were, and how long after their end the others, with the judge of turns beside
600 ms of silence alone; then, of speaking by the model's graph as
it is and rewritten, the time to the first sound, the real-time factor, and the word error rate of
what was spoken written down again.

Words are compared in lower case without marks, as they stand: "4" for "four" is an error, so the
rates are higher than of a tool that normalises numbers. Takes about three minutes on two cores;
fetches the weights first when they are not here. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from sonia.config import Config
from sonia.voice import (
    PATIENCE,
    Asks,
    Attention,
    Ended,
    Hearing,
    Patience,
    Speaker,
    Speech,
    decoded,
    heard,
    open_speech,
)
from sonia.voice.ears import COMPLETE
from sonia.voice.engines import whisper
from sonia.voice.engines.kokoro import KokoroSpeaker
from sonia.voice.speech import EAR_RATE, VOICE_RATE, WINDOW, Samples
from sonia.weights import Weights

NOISE_DB = 10.0
LOUD = 0.02  # of full scale; the last sample above it is the end of speech
PREMATURE_S = 0.3
SILENCE_MS = 600.0
VOICE = "af_heart"
TEXTS = (
    "Good morning.",
    "The kettle is on and the bread is in the oven.",
    "When the long night was over, we went on through the cold and empty valley until noon, and "
    "then we slept under the old oak beside the river.",
    "The library opens at nine. You can take home five books at once. If you bring one back late, "
    "there is a small fee, and for a lost book you pay its price. Children need a card of their "
    "own, which a parent has to sign.",
)


class Spoken(msgspec.Struct, frozen=True, kw_only=True):
    """One recording and what is said in it."""

    samples: Samples
    text: str


def words(text: str) -> list[str]:
    """In lower case, without marks."""
    return re.findall(r"[\w']+", text.lower())


def edits(said: Sequence[str], written: Sequence[str]) -> int:
    """Words wrong, missing or added."""
    row = list(range(len(written) + 1))
    for i, word in enumerate(said, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(written, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (word != other))
    return row[-1]


def noisy(samples: Samples, random: np.random.Generator) -> Samples:
    """With white noise, `NOISE_DB` below the speech."""
    level = float(np.sqrt(np.mean(np.square(samples)))) / 10 ** (NOISE_DB / 20)
    return (samples + random.normal(0, level, len(samples))).astype(np.float32)


async def hearing(speech: Speech, rows: Sequence[Spoken], name: str) -> None:
    """One line: errors and speed over all rows."""
    wrong = total = 0
    spent: list[float] = []
    for row in rows:
        began = time.perf_counter()
        written = await heard(speech.transcriber, row.samples, Hearing(language="en"))
        spent.append(time.perf_counter() - began)
        wrong += edits(words(row.text), words(written.text))
        total += len(words(row.text))
    seconds = sum(len(row.samples) for row in rows) / EAR_RATE
    print(
        f"{name:<30} {len(rows):>4} {seconds:>7.0f} {wrong / total:>8.1%} "
        f"{sum(spent) / seconds:>8.3f} {sorted(spent)[len(spent) // 2] * 1000:>8.0f}",
        flush=True,
    )


async def ending(speech: Speech, rows: Sequence[Spoken], name: str, patience: Patience) -> None:
    """One line: ends of turns found too early, and how long after the last sound the others."""
    early, delays = 0, []
    for row in rows:
        ends = await ends_of(speech, row.samples, patience)
        last_s = np.flatnonzero(np.abs(row.samples) > LOUD)[-1] / EAR_RATE
        if not ends or ends[0] < last_s - PREMATURE_S:
            early += 1
        else:
            delays.append((ends[0] - last_s) * 1000)
    delays = sorted(delays) or [float("nan")]
    print(
        f"{name:<30} {len(rows):>4} {early:>7} {delays[len(delays) // 2]:>8.0f} "
        f"{delays[int(0.9 * len(delays))]:>8.0f}",
        flush=True,
    )


async def ends_of(speech: Speech, samples: Samples, patience: Patience) -> list[float]:
    """When a turn was taken for finished, in seconds of the sound and of judging it."""
    attention = Attention(
        speech.detector.stream(), patience, Config().services.pipecat.vad_threshold
    )
    sound = np.concatenate([samples, np.zeros(4 * EAR_RATE, np.float32)])
    ends: list[float] = []
    for at in range(0, len(sound), WINDOW):
        for noticed in await attention.feed(sound[at : at + WINDOW]):
            spent = 0.0
            ended = noticed if isinstance(noticed, Ended) else None
            if isinstance(noticed, Asks):
                began = time.perf_counter()
                if await speech.judge.finished(noticed.samples) >= COMPLETE:
                    ended = attention.settle()
                spent = time.perf_counter() - began
            if ended:
                ends.append((at + WINDOW) / EAR_RATE + spent)
    return ends


async def speaking(speech: Speech, speaker: Speaker, text: str, runs: int) -> None:
    """One line: how soon, how fast, how clear."""
    firsts, factors = [], []
    whole = np.empty(0, np.float32)
    for _ in range(runs):
        began, first, parts = time.perf_counter(), 0.0, []
        async for part in speaker.speak(text, voice=VOICE):
            first = first or time.perf_counter() - began
            parts.append(part)
        whole = np.concatenate(parts)
        firsts.append(first)
        factors.append((time.perf_counter() - began) / (len(whole) / VOICE_RATE))
    ears = np.interp(
        np.arange(0, len(whole), VOICE_RATE / EAR_RATE), np.arange(len(whole)), whole
    ).astype(np.float32)
    written = await heard(speech.transcriber, ears, Hearing(language="en"))
    said = words(text)
    print(
        f"{len(said):>4} words, {len(whole) / VOICE_RATE:>5.1f} s "
        f"{sorted(firsts)[runs // 2] * 1000:>14.0f} {sorted(factors)[runs // 2]:>10.2f} "
        f"{edits(said, words(written.text)) / len(said):>10.1%}",
        flush=True,
    )


def read(folder: Path) -> list[Spoken]:
    """The English rows of the set `wer`."""
    rows = []
    for row in json.loads((folder / "manifest.json").read_text(encoding="utf-8")):
        if row["set"] == "wer" and row["lang"] == "en":
            with (folder / row["file"]).open("rb") as file:
                rows.append(Spoken(samples=decoded(file, longest_s=600), text=row["text"]))
    return rows


async def run(args: argparse.Namespace) -> None:
    """Load the engines and print both tables."""
    weights = Weights(Config().models)
    names = [file.path for file in weights.entry("kokoro-voices").files]
    async with open_speech(weights, names) as speech:
        await heard(speech.transcriber, np.zeros(EAR_RATE, np.float32), Hearing(language="en"))
        if args.data:
            rows = read(args.data)
            random = np.random.default_rng(7)
            loud = [Spoken(samples=noisy(r.samples, random), text=r.text) for r in rows]
            heads = ("", "rows", "seconds", "WER", "RTF", "ms p50")
            print("{:<30} {:>4} {:>7} {:>8} {:>8} {:>8}".format(*heads))
            short = whisper.SHORTEST_S
            for title, window in (("short windows", short), ("padded to 30 s", 30.0)):
                whisper.SHORTEST_S = window
                await hearing(speech, rows, title)
                await hearing(speech, loud, f"{title}, noise at {NOISE_DB:g} dB")
            whisper.SHORTEST_S = short
            print(
                "\n{:<30} {:>4} {:>7} {:>8} {:>8}".format("", "rows", "early", "ms p50", "ms p90")
            )
            silence = Patience(ask_ms=math.inf, longest_ms=SILENCE_MS)
            await ending(speech, rows, "Smart Turn", PATIENCE["balanced"])
            await ending(speech, rows, f"{SILENCE_MS:g} ms of silence", silence)
        plain = KokoroSpeaker(weights, tuple(names), quick=False)
        for title, speaker in (("the graph as it is", plain), ("rewritten", speech.speaker)):
            async for _ in speaker.speak("Hello.", voice=VOICE):
                pass
            print(f"\n{title:<19} {'first sound, ms':>14} {'RTF':>10} {'WER':>10}")
            for text in TEXTS:
                await speaking(speech, speaker, text, args.runs)
        await plain.close()


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="recordings with a manifest")
    parser.add_argument("--runs", type=int, default=5, help="of each spoken text (default: 5)")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
