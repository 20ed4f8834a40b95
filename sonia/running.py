"""Which Sonia serves a data folder, as other processes see it.

The server holds a lock on `<data>/sonia.lock` for as long as it lives; the system lets go of it
even when the server is killed, so nothing here can go stale. Where the server listens is in
`<data>/run.json`, which means something only while the lock is held.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from sonia.errors import ConfigurationError, Conflict

LOCK = "sonia.lock"
FILE = "run.json"
PATIENCE_S = 0.3  # someone may be probing the lock at this moment


class AlreadyRunning(Conflict):
    """Another process serves this data folder; `details["pid"]` is its process, if it told."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A server that lives. `ports` maps the names of the services it serves to their ports."""

    pid: int
    started_at: str
    version: str
    host: str
    ports: dict[str, int]


def read(data: Path) -> Running | None:
    """Who serves this data folder now; `None` when nobody does, or not yet."""
    running = _told(data)
    if running is None or not _held(data / LOCK):
        return None
    return running


def announce(data: Path, running: Running) -> None:
    """Write `run.json`, whole or not at all, for its owner only."""
    number, name = tempfile.mkstemp(dir=data, prefix=f".{FILE}-")  # mkstemp makes it 0600
    try:
        with os.fdopen(number, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(running)) + b"\n")
        Path(name).replace(data / FILE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


@contextmanager
def holding(data: Path) -> Iterator[None]:
    """Be the one server of this data folder, which is made if need be, until left.

    Raises `AlreadyRunning`, and `ConfigurationError` when the folder can't be written.
    """
    from filelock import FileLock, Timeout

    try:
        data.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = FileLock(data / LOCK, mode=0o600, fallback_to_soft=False, thread_local=False)
        lock.acquire(timeout=PATIENCE_S, poll_interval=0.02)
    except Timeout as error:
        raise _already(data) from error
    except OSError as error:
        raise ConfigurationError(
            f"paths.data: {data} can't be used: {error.strerror}. Name a folder you may write to.",
            key="paths.data",
        ) from error
    try:
        (data / FILE).unlink(missing_ok=True)  # of a server that was killed
        yield
    finally:
        (data / FILE).unlink(missing_ok=True)
        lock.release()


def _already(data: Path) -> AlreadyRunning:
    running = _told(data)
    who = (
        f"by process {running.pid} since {running.started_at}" if running else "and still starting"
    )
    return AlreadyRunning(
        f"Sonia is already running with the data folder {data}, {who}. "
        "Use it, stop it with `sonia stop`, or give this one its own folder (paths.data).",
        pid=running.pid if running else None,
    )


def _told(data: Path) -> Running | None:
    try:
        return msgspec.json.decode((data / FILE).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def _held(lock: Path) -> bool:
    if os.name == "nt":
        return _held_on_windows(lock)
    import fcntl  # what filelock uses here too; importing that takes a tenth of a second

    try:
        number = os.open(lock, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(number)
    return False


def _held_on_windows(lock: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            return False
    except Timeout:
        return True
