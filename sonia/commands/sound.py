"""Microphone and loudspeaker, through whichever program of the machine's has them.

Sound is 16-bit, little-endian, mono.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence

from sonia.errors import InvalidRequest

Program = tuple[str, ...]
Programs = Sequence[Callable[[int], Program]]

PLAYERS: Programs = (
    lambda hz: ("paplay", "--raw", f"--rate={hz}", "--format=s16le", "--channels=1"),
    lambda hz: ("pw-play", f"--rate={hz}", "--format=s16", "--channels=1", "-"),
    lambda hz: ("aplay", "-q", "-t", "raw", "-r", str(hz), "-f", "S16_LE", "-c", "1"),
    lambda hz: (
        *("ffplay", "-v", "error", "-nodisp", "-autoexit", "-f", "s16le", "-ar", str(hz)),
        *("-i", "-"),
    ),
)
RECORDERS: Programs = (
    lambda hz: (
        *("parec", "--raw", f"--rate={hz}", "--format=s16le", "--channels=1"),
        "--latency-msec=20",
    ),
    lambda hz: ("pw-record", f"--rate={hz}", "--format=s16", "--channels=1", "-"),
    lambda hz: ("arecord", "-q", "-t", "raw", "-r", str(hz), "-f", "S16_LE", "-c", "1"),
    lambda hz: (
        *("rec", "-q", "-t", "raw", "-r", str(hz), "-e", "signed", "-b", "16", "-c", "1"),
        "-",
    ),
)


class NoPlayer(InvalidRequest):
    """No program that plays sound was found."""


class NoRecorder(InvalidRequest):
    """No program that records sound was found."""


def player(rate_hz: int, instead: str) -> Program:
    """Plays what it reads. Raises `NoPlayer`, with `instead` as the way out."""
    if found := _found(PLAYERS, rate_hz):
        return found
    raise NoPlayer(f"No program that plays sound was found ({_names(PLAYERS)}). {instead}")


def recorder(rate_hz: int, instead: str) -> Program:
    """Writes what it hears. Raises `NoRecorder`, with `instead` as the way out."""
    if found := _found(RECORDERS, rate_hz):
        return found
    raise NoRecorder(f"No program that records sound was found ({_names(RECORDERS)}). {instead}")


def _found(programs: Programs, rate_hz: int) -> Program | None:
    called = (make(rate_hz) for make in programs)
    return next((program for program in called if shutil.which(program[0])), None)


def _names(programs: Programs) -> str:
    return ", ".join(make(0)[0] for make in programs)
