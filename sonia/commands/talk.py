"""`sonia talk`: speak with the running server, by microphone and loudspeaker or by files."""

from __future__ import annotations

import argparse
import asyncio
import json
import wave
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from sonia.commands import terminal
from sonia.commands.server import GATEWAY, Server
from sonia.commands.sound import player, recorder
from sonia.config import Config
from sonia.errors import InvalidRequest, SoniaError, StorageFull, Unavailable

EPILOG = """\
examples:
  sonia talk                          a conversation by voice; Ctrl-C leaves
  sonia talk --voice bf_emma          see `sonia say --voices`
  sonia talk --input question.wav --output answer.wav

Speak, and pause; she answers. Speaking over her stops her. What needs your consent is asked on
the screen: answer it with `sonia approvals ask`.
"""
RATE_HZ = 24_000
RATES_HZ = (8000, 16_000, 24_000, 48_000)
PIECE_S = 0.04
SILENCE_S = 3.0  # after a file, so that its end is heard as one
PATIENCE_S = 150.0  # for her to load, to hear something, or to answer it
INSTEAD_OF_EAR = "Or speak from a file: --input question.wav"
INSTEAD_OF_MOUTH = "Or write to a file: --output answer.wav"


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Talk to Sonia by voice."
    more = (
        f"{about} She hears and speaks on this machine. The first use fetches the weights of ears "
        "and voice (about 280 MB)."
    )
    parser = subparsers.add_parser("talk", help=about, description=more, epilog=EPILOG)
    parser.add_argument("--voice", help="else the configured one; see `sonia say --voices`")
    parser.add_argument("--language", help="a code such as en, or auto; else the configured one")
    parser.add_argument("--input", type=Path, metavar="WAV", help="speak from this file")
    parser.add_argument("--output", type=Path, metavar="WAV", help="write her voice here")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Talk until Ctrl-C, or until what the file asked is answered; 1 when nothing was heard."""
    server = Server.find(config)
    recording = _read(args.input) if args.input else None
    rate_hz = recording[1] if recording else RATE_HZ
    ear = None if recording else recorder(rate_hz, INSTEAD_OF_EAR)
    mouth = None if args.output else player(rate_hz, INSTEAD_OF_MOUTH)
    wanted = {"sample_rate": rate_hz, "voice": args.voice, "language": args.language}
    started = server.post(
        "/voice/session/start", {name: value for name, value in wanted.items() if value}
    )
    talk = Talk(server, started["session_id"], rate_hz)
    with suppress(KeyboardInterrupt):
        asyncio.run(talk.run(recording[0] if recording else None, ear, mouth, args.output))
    if recording is not None and not talk.heard:
        raise SoniaError("Nothing that was said could be heard in the file.")
    return 0


class Talk:
    """One conversation. `heard` is how many turns were understood."""

    def __init__(self, server: Server, session_id: str, rate_hz: int) -> None:
        port = server.running.ports[GATEWAY]
        self._url = f"ws://{server.running.host}:{port}/voice/ws/{session_id}"
        self._headers = server.headers
        self._rate_hz = rate_hz
        self._piece = int(PIECE_S * rate_hz) * 2
        self._mouth: Mouth | None = None
        self.heard = self.answered = 0

    async def run(
        self,
        recording: bytes | None,
        ear: tuple[str, ...] | None,
        mouth: tuple[str, ...] | None,
        output: Path | None,
    ) -> None:
        """Talk. Raises `Unavailable` when the server goes away."""
        from websockets.asyncio.client import connect
        from websockets.exceptions import WebSocketException

        try:
            async with AsyncExitStack() as stack:
                enter = stack.enter_async_context
                self._mouth = await enter(speaking(mouth, output, self._rate_hz))
                line = connect(self._url, additional_headers=self._headers, proxy=None)
                socket = await enter(line)
                if recording is None:
                    terminal.note("Speak; Ctrl-C leaves.")
                    sound = await enter(_microphone(ear or (), self._piece))
                else:
                    sound = _paced(recording, self._piece)
                await self._converse(socket, sound, until_answered=recording is not None)
        except (WebSocketException, OSError) as error:
            raise Unavailable(f"Sonia hung up: {error}.") from error

    async def _converse(
        self, socket: Any, sound: AsyncIterator[bytes], *, until_answered: bool
    ) -> None:
        listening = asyncio.create_task(self._listen(socket, until_answered=until_answered))
        sending = asyncio.create_task(self._send(socket, sound))
        try:
            await asyncio.wait({listening, sending}, return_when=asyncio.FIRST_COMPLETED)
            if until_answered and sending.done() and not sending.exception():
                await self._wait(listening)
        finally:
            for task in (sending, listening):
                task.cancel()
            ended = await asyncio.gather(sending, listening, return_exceptions=True)
        for result in ended:
            if isinstance(result, Exception):
                raise result

    async def _wait(self, listening: asyncio.Task[None]) -> None:
        """Until all that the file said is answered; `listening` ends then."""
        seen = None
        while not listening.done() and seen != (seen := (self.heard, self.answered)):
            await asyncio.wait({listening}, timeout=PATIENCE_S)

    async def _send(self, socket: Any, sound: AsyncIterator[bytes]) -> None:
        async for piece in sound:
            await socket.send(piece)

    async def _listen(self, socket: Any, *, until_answered: bool) -> None:
        async for message in socket:
            if isinstance(message, bytes):
                if self._mouth:
                    await self._mouth.say(message)
                continue
            frame = json.loads(message)
            await self._show(frame["type"], frame["data"])
            if until_answered and self.answered and self.answered == self.heard:
                return

    async def _show(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "TRANSCRIPT":
                self.heard += 1
                print(f"you> {terminal.visible(data['text'])}", flush=True)
            case "MESSAGE":
                print(f"sonia> {terminal.visible(data['text'])}", flush=True)
            case "INTERRUPTED" if self._mouth:
                await self._mouth.stop()
            case "APPROVAL_REQUIRED":
                terminal.note(terminal.visible(data["preview"]))
                terminal.note("She asks for your consent: answer with `sonia approvals ask`.")
            case "ERROR":
                terminal.note(f"sonia: {terminal.visible(data['message'])}")
            case "TURN_METRICS":
                self.answered += 1
            case _:
                pass


class Mouth:
    """Plays her voice by a program, or keeps it."""

    def __init__(self, program: tuple[str, ...] | None) -> None:
        self._program = program
        self._playing: asyncio.subprocess.Process | None = None
        self.kept: list[bytes] = []

    async def say(self, pcm: bytes) -> None:
        """Play more."""
        if self._program is None:
            self.kept.append(pcm)
            return
        if self._playing is None:
            self._playing = await asyncio.create_subprocess_exec(
                *self._program, stdin=asyncio.subprocess.PIPE
            )
        pipe = self._playing.stdin
        if pipe:
            pipe.write(pcm)
            try:
                await pipe.drain()
            except ConnectionError as error:
                raise SoniaError(
                    f"{self._program[0]} can't play here. {INSTEAD_OF_MOUTH}"
                ) from error

    async def stop(self) -> None:
        """Fall silent at once: what the program holds is dropped with it."""
        playing, self._playing = self._playing, None
        if playing and playing.returncode is None:
            with suppress(ProcessLookupError):
                playing.kill()
            await playing.wait()


@asynccontextmanager
async def speaking(
    program: tuple[str, ...] | None, output: Path | None, rate_hz: int
) -> AsyncIterator[Mouth]:
    """Leaving falls silent, and writes `output` whole."""
    mouth = Mouth(program)
    try:
        yield mouth
    finally:
        await mouth.stop()
        if output and mouth.kept:
            await asyncio.to_thread(_write, output, b"".join(mouth.kept), rate_hz)


@asynccontextmanager
async def _microphone(program: tuple[str, ...], piece: int) -> AsyncIterator[AsyncIterator[bytes]]:
    recording = await asyncio.create_subprocess_exec(*program, stdout=asyncio.subprocess.PIPE)

    async def pieces() -> AsyncIterator[bytes]:
        while recording.stdout:
            try:
                yield await recording.stdout.readexactly(piece)
            except asyncio.IncompleteReadError as error:
                raise SoniaError(f"{program[0]} hears nothing here. {INSTEAD_OF_EAR}") from error

    try:
        yield pieces()
    finally:
        if recording.returncode is None:
            with suppress(ProcessLookupError):
                recording.terminate()
            await recording.wait()


async def _paced(recording: bytes, piece: int) -> AsyncIterator[bytes]:
    """As somebody would say it, with a silence after."""
    silence = bytes(int(SILENCE_S / PIECE_S) * piece)
    whole = recording + silence
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    for number, at in enumerate(range(0, len(whole), piece)):
        await asyncio.sleep(max(0.0, began_s + number * PIECE_S - loop.time()))
        yield whole[at : at + piece]


def _read(path: Path) -> tuple[bytes, int]:
    """A mono 16-bit file and its rate. Raises `InvalidRequest`."""
    try:
        with wave.open(str(path), "rb") as file:
            form = file.getnchannels(), file.getsampwidth(), file.getframerate()
            sound = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise InvalidRequest(f"{path} can't be read as a WAV file: {error}.") from error
    if form[:2] != (1, 2) or form[2] not in RATES_HZ:
        rates = ", ".join(map(str, RATES_HZ))
        raise InvalidRequest(
            f"{path} has {form[0]} channels, {form[1] * 8} bits and {form[2]} samples a second. "
            f"Give one channel, 16 bits, and {rates}."
        )
    return sound, form[2]


def _write(path: Path, sound: bytes, rate_hz: int) -> None:
    try:
        with wave.open(str(path), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate_hz)
            file.writeframes(sound)
    except OSError as error:
        raise StorageFull(f"{path} can't be written: {error.strerror}.") from error
