"""The process that reads one file: standard input is the file, standard output the chunks.

It reads what may be hostile, so it first gives up what it does not need: memory, processor time
and output are bounded, the network is gone where the kernel allows that, and it dies with its
parent. Chunks are JSON, one a line; the last line is a `Parsed` or why there is none. A failure
of the output itself (full, over its limit) is told by an exit status of that `errno`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import sys
from typing import Any, BinaryIO

import msgspec

from sonia.parsing import chunking
from sonia.parsing.decoding import HEAD_BYTES
from sonia.parsing.formats import Found, Kind, recognise
from sonia.parsing.interface import Limits, NotReadable, Parsed, Wish
from sonia.parsing.pieces import About

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
NICE = 5
SPARE_BYTES = 16_777_216


class Refusal(msgspec.Struct, frozen=True, tag="refused"):
    """Why the file can't be read. `too_much` names what it needed too much of."""

    message: str
    reason: str = ""
    too_much: bool = False


class Whole(msgspec.Struct, frozen=True, tag="parsed"):
    """It was read to its end."""

    parsed: Parsed


def main() -> None:
    """Read the file that is standard input, as the first argument wishes."""
    wish = msgspec.json.decode(sys.argv[1], type=Wish)
    _confine(wish.limits)
    spare = bytearray(SPARE_BYTES)
    out = os.fdopen(1, "wb", buffering=1 << 20)
    try:
        try:
            last: Refusal | Whole = Whole(_read(sys.stdin.buffer, wish, out))
        except NotReadable as error:
            last = Refusal(error.message, str(error.details.get("reason", "")))
        except RecursionError:
            last = Refusal("The document is nested too deeply. Flatten it.", "nested")
        except MemoryError:
            del spare
            last = Refusal(_needs(wish.limits), "memory", too_much=True)
        out.write(msgspec.json.encode(last) + b"\n")
        out.flush()
    except OSError as error:
        os._exit(error.errno or 1)
    os._exit(0)  # a parser's own farewell may crash, and everything is written


def _read(file: BinaryIO, wish: Wish, out: BinaryIO) -> Parsed:
    head = file.read(HEAD_BYTES)
    found = recognise(head, wish)
    file.seek(0)
    about, count, chars = About(), 0, 0
    encoder = msgspec.json.Encoder()

    def counted() -> Any:
        nonlocal chars
        for piece in _reader(found, wish)(file, about):
            chars += len(piece.text)
            yield piece

    for chunk in chunking.chunks(counted(), wish.chunk_chars, wish.overlap_chars):
        out.write(encoder.encode(chunk) + b"\n")
        count += 1
    if not count:
        raise NotReadable("There is no text in the document. Send one with text.", reason="empty")
    return Parsed(
        media_type=found.media_type,
        title=about.title[:500],
        chars=chars,
        chunks=count,
        pages=about.pages,
        encoding=about.encoding,
    )


def _reader(found: Found, wish: Wish) -> Any:
    kind: Kind = found.kind
    if kind == "pdf":
        from sonia.parsing.pdf import read
    elif kind == "docx":
        from sonia.parsing.docx import check_archive, read

        check_archive(sys.stdin.buffer, wish.limits.archive_bytes)
    elif kind == "html":
        from sonia.parsing.html import read
    elif kind == "markdown":
        from sonia.parsing.markdown import read
    elif kind == "python":
        from sonia.parsing.code import read_python as read
    elif kind == "code":
        from sonia.parsing.code import read
    else:
        from sonia.parsing.plain import read
    return read


def _confine(limits: Limits) -> None:
    seconds = max(int(limits.seconds), 1)
    for kind, bound in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, limits.output_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ):
        _, hard = resource.getrlimit(kind)
        bound = bound if hard == resource.RLIM_INFINITY else min(bound, hard)
        resource.setrlimit(kind, (bound, bound))
    with contextlib.suppress(OSError):
        os.nice(NICE)
    if sys.platform == "linux":
        system = ctypes.CDLL(None)
        system.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        system.unshare(CLONE_NEWUSER | CLONE_NEWNET)  # not everywhere allowed, and not needed


def _needs(limits: Limits) -> str:
    return (
        f"Reading this document needs more than {limits.memory_bytes} bytes of memory. "
        "Send it in parts, or as text."
    )
