"""Files on their way in: written to the disk, hashed, bounded, and gone when they were read."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import secrets
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sonia.errors import PayloadTooLarge, StorageFull

BUFFER_BYTES = 1_048_576


class IncomingFile:
    """Use `incoming`. `folder` is its own, for what is made of it."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self.folder = folder
        self.path = folder / "file"
        self.size = 0
        self._limit_bytes = limit_bytes
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._file: BinaryIO | None = None

    async def write(self, data: bytes) -> None:
        """Add to it. Raises `PayloadTooLarge`, `StorageFull`."""
        self.size += len(data)
        if self.size > self._limit_bytes:
            raise PayloadTooLarge(
                f"The document is over {self._limit_bytes} bytes "
                "(services.memory_engine.documents.max_bytes). Send it in parts, or raise that.",
                limit_bytes=self._limit_bytes,
            )
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= BUFFER_BYTES:
            await asyncio.to_thread(self._flush)

    async def whole(self) -> bytes:
        """It has arrived: its SHA-256."""
        await asyncio.to_thread(self._close)
        return self._hash.digest()

    def open(self) -> None:
        """Make its folder. Raises `StorageFull`."""
        try:
            self.folder.mkdir(parents=True, mode=0o700)
            self._file = self.path.open("xb", buffering=0)
        except OSError as error:
            raise _unwritable(error) from error

    def _flush(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        self._hash.update(data)
        if self._file is None:
            return
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise _unwritable(error) from error

    def _close(self) -> None:
        self._flush()
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        """Let go of it, whatever state it is in."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self.folder, ignore_errors=True)


@asynccontextmanager
async def incoming(folder: Path, limit_bytes: int) -> AsyncIterator[IncomingFile]:
    """A new file below `folder`."""
    file = IncomingFile(folder / secrets.token_hex(8), limit_bytes)
    try:
        await asyncio.to_thread(file.open)
        yield file
    finally:
        await asyncio.shield(asyncio.to_thread(file.remove))


def clear(folder: Path) -> None:
    """Remove what a crash left there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(folder)


def _unwritable(error: OSError) -> StorageFull:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    why = "The disk is full" if full else f"The data folder can't be written: {error.strerror}"
    return StorageFull(f"{why}; the document was not saved. Free some space, and send it again.")
