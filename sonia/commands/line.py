"""The command line itself: which command, with which configuration, and what went wrong."""

from __future__ import annotations

import argparse
import os
import sys
from importlib import import_module
from typing import Any

from sonia.errors import SoniaError
from sonia.version import VERSION

COMMANDS = (
    "serve",
    "stop",
    "status",
    "chat",
    "approvals",
    "actions",
    "policy",
    "tasks",
    "audit",
    "models",
    "keys",
    "usage",
    "config",
    "doctor",
    "memory",
    "backup",
    "check",
    "transcribe",
    "say",
    "talk",
)
FAILED, USAGE, INTERRUPTED, PIPE_CLOSED = 1, 2, 130, 141
ABOUT = "A whole personal assistant in one process: it talks, remembers and acts, as you allow."
EPILOG = """\
examples:
  sonia serve                      start, and stay in this terminal
  sonia chat                       talk; Ctrl-C stops an answer, Ctrl-D leaves
  sonia chat "What time is it?"    one question, one answer
  sonia transcribe talk.mp3        write down what is said in a file
  sonia talk                       speak with her; speaking over her stops her
  sonia say "Good morning"         say it aloud, or into a file with -o
  sonia memory search tea          what she remembers; memory ingest FILE reads a document
  sonia status                     is everything well?
  sonia doctor                     what is wrong, and what to do about it
  sonia backup create              a whole copy of what she knows; restore it with: backup restore
  sonia check                      is everything that is kept what was written?
  sonia COMMAND --help             more about one command

Settings are in sonia.toml (here, or in ~/.sonia), and SONIA__SECTION__KEY=value overrides one.
Exit status: 0 done, 1 it failed, 2 wrong usage, 3 Sonia is not running, 130 interrupted.
"""


def run(arguments: list[str]) -> int:
    """Run one command and return its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    try:
        return _run(arguments)
    except SystemExit as stop:  # argparse: --help, --version, wrong usage
        return stop.code if isinstance(stop.code, int) else USAGE
    except SoniaError as error:
        _say(f"sonia: {error.message}")
        return getattr(error, "exit_status", FAILED)
    except KeyboardInterrupt:
        _say("")
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED


def _run(arguments: list[str]) -> int:
    parser = _parser(arguments)
    args = parser.parse_args(arguments)
    if not hasattr(args, "run"):
        parser.print_help()
        return USAGE
    from sonia.config import load
    from sonia.errors import ConfigurationError

    try:
        config: Any = load(args.config)
    except ConfigurationError as error:
        if not getattr(args, "takes_broken", False):
            raise
        config = error
    status: int = args.run(args, config)
    sys.stdout.flush()  # so that a closed pipe is noticed here
    return status


def _parser(arguments: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sonia",
        description=ABOUT,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"sonia {VERSION}")
    parser.add_argument("--config", metavar="FILE", help="use this configuration file")
    if arguments[:1] == ["--version"]:
        return parser
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", parser_class=_Command
    )
    for name in _wanted(arguments):
        import_module(f"sonia.commands.{name}").add(commands)
    return parser


def _wanted(arguments: list[str]) -> tuple[str, ...]:
    """The command that these arguments name, or all: importing one is quicker."""
    words = iter(arguments)
    for word in words:
        if word == "--config":
            next(words, None)
        elif word in COMMANDS:
            return (word,)
        elif not word.startswith("-"):
            break
    return COMMANDS


class _Command(argparse.ArgumentParser):
    """A command's parser, which takes `--config` too: nobody remembers where it goes."""

    def __init__(self, **options: Any) -> None:
        options.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(**options)
        self.add_argument(
            "--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS
        )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
