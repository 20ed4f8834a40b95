"""How bytes become a file of weights: under another name first, checked, then renamed.

Nothing is ever half-written under a final name, and nothing unchecked is ever there.
Everything here blocks; `in_thread` is how a coroutine calls it and can still be cancelled.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, ParamSpec, Self, TypeVar

from sonia.errors import SoniaError, StorageFull, Unavailable, UpstreamError
from sonia.weights.catalogue import WeightsFile

CHUNK_BYTES = 1 << 20
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})

P = ParamSpec("P")
T = TypeVar("T")


class SourceFailed(UpstreamError):
    """One source could not hand over a file; the next one may."""


class Unpinned(SourceFailed):
    """Other bytes than the pinned ones."""


class Stopped(Exception):
    """Work in a thread noticed that nobody waits for it any more."""


class Stop(threading.Event):
    """Set to end the work in a thread; `check` between two chunks."""

    def check(self) -> None:
        """Raise `Stopped` if set."""
        if self.is_set():
            raise Stopped


async def in_thread(stop: Stop, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `work` off the loop. When cancelled, set `stop` and leave once it has ended."""
    task = asyncio.ensure_future(asyncio.to_thread(work, *args, **kwargs))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        stop.set()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()
        raise


def digest(path: Path, stop: Stop) -> str:
    """The SHA-256 of a file. Raises `Stopped`, or what `open` raises."""
    state = hashlib.sha256()
    with path.open("rb") as source:
        _feed(state.update, source, stop)
    return state.hexdigest()


def translated(error: OSError, path: Path) -> SoniaError:
    """The error tree's word for a failed write below the weights folder."""
    if error.errno in FULL:
        return StorageFull(f"No space left to write {path}.", path=str(path))
    return Unavailable(f"Cannot write {path}: {error.strerror or error}.", path=str(path))


class Landing:
    """One file on its way to `target`.

    With `resume`, what an earlier try left in the temporary file is kept, and leaving
    without `land` keeps it for the next; otherwise leaving removes it. Raises `SourceFailed`
    for wrong bytes, `StorageFull` or `Unavailable` for a disk that does not take them.
    """

    def __init__(self, file: WeightsFile, target: Path, *, resume: bool = False) -> None:
        self.file = file
        self.done_bytes = 0
        self._target = target
        self._resume = resume
        self._part = target.with_name(target.name + (".part" if resume else ".tmp"))
        self._hash = hashlib.sha256()
        self._out: IO[bytes] | None = None

    def open(self, stop: Stop) -> Self:
        """Open the temporary file, having read what it holds."""
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            self._out = self._part.open("ab" if self._resume else "wb")
            if self._resume:
                with self._part.open("rb") as kept:
                    _feed(self._count, kept, stop)
        except OSError as error:
            raise translated(error, self._part) from error
        if self.done_bytes > self.file.size_bytes:
            self.restart()
        return self

    def restart(self) -> None:
        """Throw away what is there and begin again."""
        try:
            self._sink.seek(0)
            self._sink.truncate()
        except OSError as error:
            raise translated(error, self._part) from error
        self._hash, self.done_bytes = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        """Append. Raises `Unpinned` as soon as there are more bytes than pinned."""
        if self.done_bytes + len(chunk) > self.file.size_bytes:
            self.restart()
            raise Unpinned(
                f"{self.file.path} is longer than the pinned {self.file.size_bytes} bytes"
            )
        try:
            self._sink.write(chunk)
        except OSError as error:
            raise translated(error, self._part) from error
        self._count(chunk)

    def land(self) -> None:
        """Check, sync, rename. Raises `SourceFailed` when bytes are missing, and `Unpinned`,
        having thrown them away, when they are not the pinned ones."""
        if self.done_bytes < self.file.size_bytes:
            ended = f"{self.done_bytes} of {self.file.size_bytes} bytes"
            raise SourceFailed(f"{self.file.path} ended after {ended}")
        found = self._hash.hexdigest()
        if found != self.file.sha256:
            self.restart()
            raise Unpinned(
                f"{self.file.path}: expected SHA-256 {self.file.sha256}, found {found}",
                file=self.file.path,
                expected=self.file.sha256,
                found=found,
            )
        try:
            self._sink.flush()
            os.fsync(self._sink.fileno())
            self._sink.close()
            self._part.replace(self._target)
            _sync_folder(self._target.parent)
        except OSError as error:
            raise translated(error, self._target) from error

    def close(self) -> None:
        """Leave; a second time does nothing."""
        if self._out is not None:
            with suppress(OSError):  # a full disk, already told
                self._out.close()
        if not (self._resume and self.done_bytes):
            self._part.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    @property
    def _sink(self) -> IO[bytes]:
        if self._out is None:
            raise RuntimeError("open() comes first")
        return self._out

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.done_bytes += len(chunk)


def _feed(sink: Callable[[bytes], object], source: IO[bytes], stop: Stop) -> None:
    while chunk := source.read(CHUNK_BYTES):
        stop.check()
        sink(chunk)


def copy(source: IO[bytes], landing: Landing, stop: Stop, tick: Callable[[int], None]) -> None:
    """Write all of `source` to `landing`; `tick` hears the size of every chunk."""
    while chunk := source.read(CHUNK_BYTES):
        stop.check()
        landing.write(chunk)
        tick(len(chunk))


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
