"""`sonia transcribe FILE`: what is said in a sound file, written down by the running Sonia."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from sonia.commands.forms import form
from sonia.commands.server import Refused, Server
from sonia.config import Config
from sonia.errors import InvalidRequest

FORMATS = ("text", "json", "verbose_json", "srt", "vtt")


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Write down what is said in a sound file."
    more = (
        f"{about} Any common format: wav, mp3, m4a, ogg, opus, flac, webm, or the sound of an "
        "mp4. It is done by the running Sonia and nothing leaves this machine. The first use "
        "fetches the recogniser's weights (about 150 MB)."
    )
    parser = subparsers.add_parser("transcribe", help=about, description=more)
    parser.add_argument("file", type=Path, metavar="FILE", help="the sound file")
    parser.add_argument("--language", metavar="CODE", help="en, de, fr …; recognised if left out")
    parser.add_argument("--translate", action="store_true", help="into English")
    parser.add_argument("--prompt", default="", help="names and words to expect")
    parser.add_argument(
        "--format", choices=FORMATS, default="text", help="text as it is heard, or captions"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Send the file, and print what comes back: text as it is heard, the rest whole."""
    server = Server.find(config)
    streams = args.format == "text"
    fields = {
        "model": "whisper-1",
        "prompt": args.prompt,
        "response_format": "json" if streams else args.format,
        "stream": "true" if streams else "false",
    }
    if args.language:
        fields["language"] = args.language
    path = "/v1/audio/translations" if args.translate else "/v1/audio/transcriptions"
    try:
        file = args.file.open("rb")
    except OSError as error:
        raise InvalidRequest(f"{args.file} can't be read: {error.strerror}.") from error
    with file:
        headers, body = form(fields, file, args.file.name)
        with server.bytes(path, body, headers) as answer:
            if not streams:
                sys.stdout.write(answer.read().decode())
                return 0
            _print_events(answer)
    return 0


def _print_events(answer: Any) -> None:
    for line in answer:
        if not line.startswith(b"data: "):
            continue
        event = json.loads(line[6:])
        if event["type"] == "transcript.text.delta":
            sys.stdout.write(event["delta"])
            sys.stdout.flush()
        elif event["type"] == "error":
            raise Refused(str(event["error"]["message"]), code=event["error"]["code"])
    sys.stdout.write("\n")
