"""From the end of a question to the beginning of the answer: `python -m benchmarks.voice_to_voice`.

A real server, its shipped configuration and weights; questions spoken by Kokoro, and with
`--data FOLDER` recordings of that folder's `manifest.json` too, sent in real time over the socket.
With `--peer-python` the same is asked of a stock pipecat pipeline on the same weights
(`voice_stock.py`; benchmarks/requirements-peers.txt).
Printed: voice to voice (last sample of speech sent → first byte of the answer's sound back), median
and 95th percentile, the stages of it as the server tells them, and how many turns were answered
before they were over. Every answer is interrupted once it begins: the stop, from asking for it to
the last byte of sound, is printed, too. The first turn is counted. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from math import isnan
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from sonia.config import Config
from sonia.gateway.prompt import SYSTEM
from sonia.running import read
from sonia.voice import EAR_RATE, Samples, decoded, open_speech
from sonia.voice.speech import VOICE_RATE, to_pcm
from sonia.weights import Weights

MODEL = Config().services.model_router.providers.local.models[0]
VOICES = ("am_michael", "bf_emma", "af_bella", "bm_george")
QUESTIONS = (
    "What is the capital of France?",
    "Can you tell me a short joke?",
    "How many legs does a spider have?",
    "What should I cook for dinner tonight?",
    "Why is the sky blue?",
    "Who wrote Romeo and Juliet?",
    "Good morning, how are you today?",
    "What colour do I get when I mix blue and yellow?",
    "Please explain what a database is.",
    "How long does it take to boil an egg?",
)
MESSAGE_S = 0.02
LOUD = 0.02  # of full scale; the last sample above it is the end of speech
PREMATURE_MS = 300
STAGES = ("decided_ms", "asr_ms", "llm_first_token_ms", "llm_first_clause_ms", "tts_first_audio_ms")
SOON_MS = 1100
HEARD_OUT_S = 1.0
SETTLE_S = 8.0  # nobody speaks in the moment in which a session begins


class Turn(msgspec.Struct, kw_only=True):
    """One question and what became of it; milliseconds."""

    name: str
    voice_to_voice: float
    stop: float
    premature: bool
    metrics: dict[str, float | None]
    heard: str


@contextmanager
def serving(folder: Path) -> Iterator[dict[str, int]]:
    """A server of its own; enter for its ports."""
    names = ("API_GATEWAY", "MODEL_ROUTER", "MEMORY_ENGINE", "PIPECAT", "OPENCLAW", "EVA_OS")
    environment = os.environ | {
        "SONIA__PATHS__DATA": str(folder / "data"),
        "SONIA__PATHS__LOGS": str(folder / "logs"),
        "SONIA__SERVICES__OPENCLAW__WORKSPACE": str(folder / "workspace"),
        **{f"SONIA__SERVICES__{name}__PORT": "0" for name in names},
    }
    process = subprocess.Popen([sys.executable, "-m", "sonia", "serve"], env=environment)
    try:
        while (running := read(folder / "data")) is None or running.pid != process.pid:
            if process.poll() is not None:
                raise SystemExit("The server did not start.")
            time.sleep(0.05)
        yield running.ports
    finally:
        process.terminate()
        process.wait()


async def until_ready(ports: dict[str, int]) -> None:
    """Wait for the chat model, and have the voice loaded as for a session about to begin."""
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        while True:
            url = f"http://127.0.0.1:{ports['model-router']}/providers"
            providers = (await http.get(url)).json()["data"]["providers"]
            if any(one["name"] == "local" and one["state"] == "ready" for one in providers):
                return
            await asyncio.sleep(0.2)


async def questions(data: Path | None) -> list[tuple[str, Samples]]:
    """What is asked, at 16,000 samples a second."""
    weights = Weights(Config().models)
    names = [file.path for file in weights.entry("kokoro-voices").files]
    asked: list[tuple[str, Samples]] = []
    async with open_speech(weights, names) as speech:
        for number, text in enumerate(QUESTIONS):
            voice = VOICES[number % len(VOICES)]
            whole = np.concatenate([s async for s in speech.speaker.speak(text, voice=voice)])
            at = np.arange(0, len(whole), VOICE_RATE / EAR_RATE)
            asked.append((text, np.interp(at, np.arange(len(whole)), whole).astype(np.float32)))
    if data:
        for row in json.loads((data / "manifest.json").read_text(encoding="utf-8")):
            if row["set"] == "wer" and row["lang"] == "en" and row["duration_s"] < 6:
                with (data / row["file"]).open("rb") as file:
                    asked.append((row["file"], decoded(file, longest_s=10)))
    return asked


class Client:
    """Somebody at a microphone: sends always, in real time."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.sound_at: list[float] = []
        self.told: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.heard = b""  # of her voice
        self._sent = 0

    async def read(self) -> None:
        """Take what comes."""
        async for got in self._socket:
            if isinstance(got, bytes):
                self.sound_at.append(time.perf_counter())
                self.heard += got
            else:
                self._tell(json.loads(got))

    def _tell(self, message: dict[str, Any]) -> None:
        self.told.put_nowait(message)

    async def ask(self, name: str, samples: Samples) -> Turn:
        """Say this, wait for the answer to begin, interrupt it."""
        before_ms = self._sent / EAR_RATE * 1000
        last_at, spoken_ms = await self._say(samples)
        first_at = self.sound_at[0] if self.sound_at else float("nan")
        stop_at = time.perf_counter()
        await self._interrupt()
        told = await self._until("TURN_METRICS")
        transcripts = [one["data"] for one in told if one["type"] == "TRANSCRIPT"]
        end_ms = transcripts[0]["end_ms"] if transcripts else float("nan")
        stopped = (self.sound_at[-1] - stop_at) * 1000 if self.sound_at else float("nan")
        premature = end_ms < before_ms + spoken_ms - PREMATURE_MS
        if premature:  # the rest was a turn, too
            await self._hush(3.0)
        return Turn(
            name=name,
            voice_to_voice=float("nan") if premature else (first_at - last_at) * 1000,
            stop=stopped,
            premature=premature,
            metrics=told[-1]["data"],
            heard=transcripts[0]["text"] if transcripts else "",
        )

    async def _interrupt(self) -> None:
        await self._socket.send(json.dumps({"type": "INTERRUPT"}))

    async def _say(self, samples: Samples) -> tuple[float, float]:
        """Until she answers; when the last of it was sent, and how long it was to there, in ms."""
        self.sound_at.clear()
        last = int(np.flatnonzero(np.abs(samples) > LOUD)[-1])
        step = int(EAR_RATE * MESSAGE_S)
        sound = np.concatenate([samples, np.zeros(30 * EAR_RATE, np.float32)])
        last_at, began = 0.0, time.perf_counter()
        for number, at in enumerate(range(0, len(sound) - step, step)):
            await asyncio.sleep(max(0.0, began + number * MESSAGE_S - time.perf_counter()))
            await self._socket.send(to_pcm(sound[at : at + step]))
            self._sent += step
            if at <= last < at + step:
                last_at = time.perf_counter()
            if self.sound_at and last_at:
                break
        return last_at, last / EAR_RATE * 1000

    async def _hush(self, seconds: float) -> None:
        """Say nothing for so long, and forget what came meanwhile."""
        silence = to_pcm(np.zeros(int(EAR_RATE * MESSAGE_S), np.float32))
        for _ in range(int(seconds / MESSAGE_S)):
            await asyncio.sleep(MESSAGE_S)
            await self._socket.send(silence)
            self._sent += len(silence) // 2
        await self._interrupt()
        await asyncio.sleep(0.5)
        while not self.told.empty():
            self.told.get_nowait()

    async def _until(self, kind: str) -> list[dict[str, Any]]:
        told: list[dict[str, Any]] = []
        while not told or told[-1]["type"] != kind:
            told.append(await asyncio.wait_for(self.told.get(), 60))
        return told


class StockClient(Client):
    """The same of the stock pipeline, which only speech interrupts: she is heard out."""

    def __init__(self, socket: ClientConnection) -> None:
        super().__init__(socket)
        self._decided_at: list[float] = []

    async def ask(self, name: str, samples: Samples) -> Turn:
        """Say this, wait for the answer to begin and to end."""
        self._decided_at.clear()
        last_at, _ = await self._say(samples)
        first_at = self.sound_at[0] if self.sound_at else float("nan")
        while self.sound_at and time.perf_counter() - self.sound_at[-1] < HEARD_OUT_S:
            await self._hush(HEARD_OUT_S / 2)
        decided_at = self._decided_at or [float("nan")]
        premature = decided_at[0] < last_at - PREMATURE_MS / 1000
        return Turn(
            name=name,
            voice_to_voice=float("nan") if premature else (first_at - last_at) * 1000,
            stop=float("nan"),
            premature=premature,
            metrics={"asr_ms": (decided_at[-1] - last_at) * 1000},
            heard="",
        )

    def _tell(self, message: dict[str, Any]) -> None:
        if message.get("type") == "COMMIT":
            self._decided_at.append(time.perf_counter())

    async def _interrupt(self) -> None:
        pass


async def _given() -> dict[str, Any]:
    weights, given = Weights(Config().models), {"system": SYSTEM}
    names = {"model": MODEL, "whisper": "whisper-base", "kokoro": "kokoro-82m-int8"}
    for key, name in names.items():
        files = await weights.ensure(name)
        one = next(iter(files.values()))
        given[key] = str(one.parent if key == "whisper" else one)
    voices = await weights.ensure("kokoro-voices")
    return given | {"voices": [str(file) for file in voices.values()]}


@contextmanager
def stock(python: Path) -> Iterator[int]:
    """The stock pipeline in a process of its own; enter for its port."""
    given = json.dumps(asyncio.run(_given()))
    arguments = [str(python), str(Path(__file__).with_name("voice_stock.py")), given]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        while not (line := process.stdout.readline()).startswith("PORT "):
            if not line:
                raise SystemExit("The stock pipeline did not start.")
        yield int(line.split()[1])
    finally:
        process.terminate()
        process.wait()


async def talk_to_stock(port: int, asked: Sequence[tuple[str, Samples]]) -> list[Turn]:
    """Ask everything, in one session."""
    async with connect(f"ws://127.0.0.1:{port}", proxy=None) as socket:
        client = StockClient(socket)
        reading = asyncio.create_task(client.read())
        await asyncio.sleep(SETTLE_S)
        turns = [await client.ask(name, samples) for name, samples in asked]
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        return turns


C = TypeVar("C", bound=Client)


@asynccontextmanager
async def session(ports: dict[str, int], kind: type[C]) -> AsyncIterator[C]:
    """A new session, talked in until left."""
    async with httpx.AsyncClient(trust_env=False) as http:
        url = f"http://127.0.0.1:{ports['pipecat']}/session/start"
        started = (await http.post(url, json={"sample_rate": EAR_RATE})).json()["data"]
    async with connect(started["ws_url"], proxy=None) as socket:
        client = kind(socket)
        reading = asyncio.create_task(client.read())
        yield client
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


def printed(turns: Sequence[Turn], who: str) -> None:
    """The table."""
    heads = (who, "v-to-v", "decided", "+words", "+token", "+clause", "+sound", "stop")
    print("\n{:<33}{:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>6}   (ms)".format(*heads))
    for turn in turns:
        stages = " ".join(f"{turn.metrics.get(name) or float('nan'):>7.0f}" for name in STAGES)
        early = "early" if turn.premature else ""
        print(f"{turn.name[:32]:<33}{turn.voice_to_voice:>7.0f} {stages} {turn.stop:>6.0f} {early}")
    total = sorted(turn.voice_to_voice for turn in turns if not isnan(turn.voice_to_voice))
    p95 = total[min(len(total) - 1, int(0.95 * len(total)))]
    soon = sum(one < SOON_MS for one in total) / len(total)
    stops = [turn.stop for turn in turns if not isnan(turn.stop)]
    stopped = f"; stopped after {statistics.median(stops):.0f} ms (median)" if stops else ""
    print(
        f"{who}: {len(turns)} turns, median {statistics.median(total):.0f} ms, p95 {p95:.0f} ms, "
        f"first {turns[0].voice_to_voice:.0f} ms, {soon:.0%} under {SOON_MS / 1000} s, "
        f"{sum(turn.premature for turn in turns)} answered too early{stopped}",
        flush=True,
    )


async def talk(
    ports: dict[str, int], asked: Sequence[tuple[str, Samples]], sessions: int
) -> list[Turn]:
    """Ask everything, in so many sessions at once."""
    await until_ready(ports)

    async def one(number: int) -> list[Turn]:
        async with session(ports, Client) as client:
            await asyncio.sleep(SETTLE_S + number)
            return [await client.ask(name, samples) for name, samples in asked[number::sessions]]

    found = await asyncio.gather(*(one(number) for number in range(sessions)))
    return [turn for turns in found for turn in turns]


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="recordings with a manifest")
    parser.add_argument("--turns", type=int, default=22, help="how many (default: 22)")
    parser.add_argument("--sessions", type=int, default=1, help="at once (default: 1)")
    parser.add_argument("--peer-python", type=Path, help="of a venv with the stock pipeline")
    args = parser.parse_args()
    asked = asyncio.run(questions(args.data))
    asked = [asked[number % len(asked)] for number in range(args.turns)]
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as ports:
        printed(asyncio.run(talk(ports, asked, args.sessions)), "Sonia")
    if args.peer_python:
        with stock(args.peer_python) as port:
            printed(asyncio.run(talk_to_stock(port, asked)), "stock pipecat")


if __name__ == "__main__":
    main()
