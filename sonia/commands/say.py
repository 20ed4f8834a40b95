"""`sonia say TEXT`: speak it aloud, or into a file."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

from sonia.commands.server import Server
from sonia.commands.sound import Program, player
from sonia.config import Config
from sonia.errors import InvalidRequest, SoniaError, StorageFull

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
SUFFIXES = {".ogg": "opus", ".m4a": "aac"}
CHUNK_BYTES = 16 * 1024
RATE_HZ = 24_000  # what the server speaks


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Say a text aloud, or into a sound file."
    more = (
        f"{about} It is spoken by the running Sonia and nothing leaves this machine. The first "
        "use fetches the voice's weights (about 120 MB)."
    )
    parser = subparsers.add_parser("say", help=about, description=more)
    parser.add_argument("text", nargs="?", help="what to say; - or nothing reads standard input")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write here instead")
    parser.add_argument("--voice", default="af_heart", help="see --voices (default: af_heart)")
    parser.add_argument("--speed", type=float, default=1.0, help="0.25 to 4 (default: 1)")
    parser.add_argument("--format", choices=FORMATS, help="else by the ending of FILE, else mp3")
    parser.add_argument("--voices", action="store_true", help="list the voices")
    parser.add_argument("--json", action="store_true", help="with --voices: print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Speak, or list the voices."""
    server = Server.find(config)
    if args.voices:
        voices = server.get("/voice/voices")
        if args.json:
            print(json.dumps(voices, indent=2))
        else:
            for voice in voices:
                print(f"{voice['name']:<16} {voice['language']:<6} {voice['gender']}")
        return 0
    text = args.text if args.text not in (None, "-") else sys.stdin.read()
    program = None if args.output else player(RATE_HZ, "Write a file: -o speech.wav")
    body = {
        "model": "kokoro",
        "input": text,
        "voice": args.voice,
        "speed": args.speed,
        "response_format": _format(args) if args.output else "pcm",
    }
    sent = json.dumps(body).encode()
    with server.bytes("/v1/audio/speech", sent, {"Content-Type": "application/json"}) as answer:
        if program:
            return _play(answer, program)
        _write(answer, args.output)
    return 0


def _format(args: argparse.Namespace) -> str:
    if args.format:
        return str(args.format)
    ending = args.output.suffix.lower()
    wanted = SUFFIXES.get(ending, ending.removeprefix(".") or "mp3")
    if wanted not in FORMATS:
        raise InvalidRequest(
            f"{args.output} ends with no format there is. Name it .{', .'.join(FORMATS)}, or give "
            "--format."
        )
    return wanted


def _play(answer: Any, program: Program) -> int:
    with subprocess.Popen(program, stdin=subprocess.PIPE) as playing:
        pipe: Any = playing.stdin
        try:
            _copy(answer, pipe)
        except BrokenPipeError:
            pass  # the player ended; its status says why
        except KeyboardInterrupt:
            playing.terminate()
            raise
        finally:
            pipe.close()
    if playing.returncode:
        raise SoniaError(
            f"{program[0]} can't play here (status {playing.returncode}). Use -o FILE."
        )
    return 0


def _write(answer: Any, output: Path) -> None:
    partial = output.with_name(f"{output.name}.part")
    try:
        with partial.open("wb") as file:
            _copy(answer, file)
        partial.replace(output)
    except OSError as error:
        raise StorageFull(f"{output} can't be written: {error.strerror}.") from error
    finally:
        partial.unlink(missing_ok=True)


def _copy(answer: Any, file: IO[bytes]) -> None:
    while chunk := answer.read1(CHUNK_BYTES):
        file.write(chunk)
        file.flush()
