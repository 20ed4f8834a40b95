"""Reading a file in a process of its own, and what became of it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from sonia.errors import StorageFull
from sonia.parsing.interface import Chunk, Limits, NotReadable, Parsed, ReadingFailed, Wish

LAST_BYTES = 65_536
_START = (
    "import sys; sys.path[:] = sys.argv.pop().split('\\n'); "
    "from sonia.parsing.child import main; main()"
)


async def parse(file: Path, chunks: Path, wish: Wish) -> Parsed:
    """Read `file` into `chunks` (see `chunks_in`), which is made anew.

    Raises `NotReadable` for a file that can't be read, `ReadingFailed` for one that takes too
    much, `StorageFull`. Cancelling ends the process, and returns when it has ended.
    """
    status = await _run(file, chunks, wish)
    if status == 0:
        return await asyncio.to_thread(_outcome, chunks)
    if status == errno.ENOSPC:
        raise StorageFull("The disk is full; the document was not saved. Free some space.")
    raise _why(status, wish.limits)


def chunks_in(path: Path) -> Iterator[Chunk]:
    """The chunks that `parse` left there, in order."""
    decoder = msgspec.json.Decoder(Chunk)
    with path.open("rb") as lines:
        held = next(lines, b"")
        for line in lines:  # the last line is no chunk
            yield decoder.decode(held)
            held = line


async def _run(file: Path, chunks: Path, wish: Wish) -> int:
    source = await asyncio.to_thread(os.open, file, os.O_RDONLY | os.O_CLOEXEC)
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    target = await asyncio.to_thread(os.open, chunks, flags, 0o600)
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-ISc",
            _START,
            msgspec.json.encode(wish).decode(),
            "\n".join(sys.path),
            stdin=source,
            stdout=target,
            stderr=asyncio.subprocess.DEVNULL,
            env={"LANG": "C.UTF-8", "MALLOC_ARENA_MAX": "1"},
            start_new_session=True,
        )
    finally:
        os.close(source)
        os.close(target)
    try:
        async with asyncio.timeout(wish.limits.seconds):
            return await process.wait()
    except TimeoutError:
        return -signal.SIGXCPU
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _outcome(chunks: Path) -> Parsed:
    from sonia.parsing.child import Refusal, Whole

    with chunks.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(size - LAST_BYTES, 0))
        last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
    told = msgspec.json.decode(last, type=Refusal | Whole)
    if isinstance(told, Whole):
        return told.parsed
    if told.too_much:
        raise ReadingFailed(told.message, reason=told.reason)
    raise NotReadable(told.message, reason=told.reason)


def _why(status: int, limits: Limits) -> NotReadable | ReadingFailed:
    if status in (-signal.SIGXCPU, -signal.SIGKILL):
        return ReadingFailed(
            f"Reading the document took longer than {limits.seconds:g} s. Send it in parts, or as "
            "text.",
            reason="time",
            limit_s=limits.seconds,
        )
    if status == errno.EFBIG:
        return ReadingFailed(
            f"The document has more text than {limits.output_bytes} bytes. Send it in parts.",
            reason="output",
            limit_bytes=limits.output_bytes,
        )
    return NotReadable(
        "The document makes its parser fail: it is broken, or made to do harm. Save it anew from "
        "the program it comes from, or send its text.",
        reason="broken",
    )
