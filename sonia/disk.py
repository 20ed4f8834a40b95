"""What the database does about its disk: a reserve for when that is full, and a short log.

Both belong to the writer thread; everything here blocks.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from sonia.log import get_logger

BUSY_MS = 5_000
RESERVE_BYTES = 4 * 1024 * 1024
RESERVE_SHARE = 16  # never more than a sixteenth of what is free
LOG_BYTES = 64 * 1024 * 1024  # a write-ahead log longer than this is cut when it can be
COPIED_PAGES = LOG_BYTES // 2 // 4096  # of the log, then it is copied: a page changed often, once
LOG_RETRY_S = 1.0
GATE_S = 0.1  # how long reads may be held up for it


class Reserve:
    """A file that is there to be deleted: on a full disk, deleting things takes some space too."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}.reserve")

    @property
    def bytes(self) -> int:
        """How much it holds now."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0

    def fill(self, share: int = RESERVE_SHARE) -> bool:
        """Take so much of what is free, one part in `share`. False when there isn't enough."""
        held = self.bytes
        size = min(RESERVE_BYTES, (self._free() + held) // share)
        if held >= size:
            return held > 0
        try:
            number = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                _allocate(number, size)
            finally:
                os.close(number)
        except OSError:
            return False
        return True

    def is_room(self) -> bool:
        """Whether it is whole again and as much is free besides."""
        return self.fill() and self._free() >= self.bytes

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError:
            return 0

    def give_back(self) -> None:
        """Let go of the space."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


def _allocate(number: int, size: int) -> None:
    if allocate := getattr(os, "posix_fallocate", None):
        allocate(number, 0, size)
        return
    for start in range(0, size, 65_536):
        os.write(number, bytes(min(65_536, size - start)))


class Gate:
    """Lets reads in, and keeps them out for a moment.

    Short reads that overlap without end would keep the log from ever being emptied: there is
    always one that still looks at it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = 0
        self._shut = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Wait until it is open, and be inside until left."""
        with self._changed:
            self._changed.wait_for(lambda: not self._shut)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    @contextmanager
    def shut(self, wait_s: float) -> Iterator[None]:
        """Keep new reads out, and wait so long for those inside to end."""
        with self._changed:
            self._shut = True
            self._changed.wait_for(lambda: not self._inside, wait_s)
        try:
            yield
        finally:
            with self._changed:
                self._shut = False
                self._changed.notify_all()


class WriteAheadLog:
    """Keeps SQLite's log short. It grows while a reader looks at an old state, however long."""

    def __init__(self, connection: apsw.Connection, database: Path, gate: Gate) -> None:
        self._connection = connection
        self._gate = gate
        self._path = database.with_name(f"{database.name}-wal")
        self._tried_at = 0.0
        self.alarm = False
        connection.execute(f"PRAGMA journal_size_limit={LOG_BYTES}")
        connection.execute(f"PRAGMA wal_autocheckpoint={COPIED_PAGES}")

    @property
    def bytes(self) -> int:
        """The length of the file."""
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    def tend(self) -> None:
        """Cut it when it is long, at most once a second; tell when a reader keeps it long."""
        size = self.bytes
        if size <= LOG_BYTES and not self.alarm:
            return
        if time.monotonic() - self._tried_at < LOG_RETRY_S:
            return
        self._tried_at = time.monotonic()
        with self._gate.shut(GATE_S):
            self.cut()
        left = self.bytes
        if left > LOG_BYTES and not self.alarm:
            self.alarm = True
            get_logger("database").warning(
                "the write-ahead log can't be emptied: a reader has been at an old state for long",
                bytes=left,
                limit_bytes=LOG_BYTES,
            )
        elif left <= LOG_BYTES and self.alarm:
            self.alarm = False
            get_logger("database").info("the write-ahead log is short again", bytes=left)

    def cut(self) -> None:
        """Move it into the database and leave it empty, unless a reader is in the way."""
        self._connection.set_busy_timeout(0)
        try:
            with suppress(apsw.Error):  # on a full disk the log stays, and is read when reopened
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            self._connection.set_busy_timeout(BUSY_MS)
