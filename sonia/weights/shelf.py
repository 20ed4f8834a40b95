"""The weights folder: where files lie, whether they are the pinned ones, who may write.

<folder>/<entry>/<file>          whole and checked when it got this name
<folder>/<entry>/<file>.part     a download to go on with
<folder>/.pull/<entry>/          packages fetched for a pull that is not over
<folder>/.pull/<entry>.lock      held by the process that pulls
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sonia.errors import StorageFull, Unavailable
from sonia.types import Value
from sonia.weights.catalogue import WeightsDamaged, WeightsEntry, WeightsFile, WeightsMissing
from sonia.weights.landing import Stop, digest, in_thread, translated
from sonia.weights.sources import Job

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK_POLL_S = 0.2


class WeightsCheck(Value):
    """What `verify` found of one file; `found` is empty when there is none."""

    path: str
    state: Literal["ok", "damaged", "missing"]
    expected: str
    found: str = ""


class Shelf:
    """Everything here blocks, except making one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._checked: dict[Path, tuple[int, int, int]] = {}

    def folder(self, entry: WeightsEntry) -> Path:
        """Where the entry's files go."""
        return self._folder / entry.name

    def staging(self, entry: WeightsEntry) -> Path:
        """Where a pull of the entry keeps what is not yet a file of it."""
        return self._folder / ".pull" / entry.name

    def paths(self, entry: WeightsEntry) -> dict[str, Path]:
        """Every file's place, whether it is there or not."""
        return {file.path: self.folder(entry) / file.path for file in entry.files}

    def present(self, entry: WeightsEntry) -> bool:
        """Whether every file is there with the right size."""
        sizes = {file.path: file.size_bytes for file in entry.files}
        return all(_size_bytes(path) == sizes[name] for name, path in self.paths(entry).items())

    def missing(self, entry: WeightsEntry) -> list[str]:
        """The names of the files that are not there."""
        return [name for name, path in self.paths(entry).items() if _size_bytes(path) is None]

    def verify(self, entry: WeightsEntry, file: WeightsFile, stop: Stop) -> WeightsCheck:
        """Read the file and compare."""
        path = self.folder(entry) / file.path
        if _stat(path) is None:
            return WeightsCheck(path=file.path, state="missing", expected=file.sha256)
        try:
            found = digest(path, stop)
        except OSError as error:
            raise _unreadable(error, path) from error
        state: Literal["ok", "damaged"] = "ok" if found == file.sha256 else "damaged"
        return WeightsCheck(path=file.path, state=state, expected=file.sha256, found=found)

    def check(self, entry: WeightsEntry, file: WeightsFile, stop: Stop) -> None:
        """`verify` unless nothing changed since. Raises `WeightsMissing`, `WeightsDamaged`."""
        path = self.folder(entry) / file.path
        stat = _stat(path)
        if stat is None:
            raise WeightsMissing(f"{path} is not here.", missing=[file.path])
        seen = (stat.st_size, stat.st_mtime_ns, stat.st_ino)
        if self._checked.get(path) == seen:
            return
        check = self.verify(entry, file, stop)
        if check.state != "ok":
            raise WeightsDamaged(
                f"{path} is not the pinned file: expected SHA-256 {check.expected}, "
                f"found {check.found}. Fetch it again with: sonia models pull {entry.name}",
                file=str(path),
                expected=check.expected,
                found=check.found,
            )
        self._checked[path] = seen


def check_space(job: Job, wanted_bytes: int) -> None:
    """Raise `StorageFull` before a pull that cannot end well."""
    free_bytes = shutil.disk_usage(job.staging.parent).free
    if free_bytes < wanted_bytes:
        raise StorageFull(
            f"{job.entry.name} needs {wanted_bytes} bytes below {job.folder.parent}, "
            f"where {free_bytes} are free.",
            needed_bytes=wanted_bytes,
            free_bytes=free_bytes,
        )


@asynccontextmanager
async def alone(job: Job) -> AsyncIterator[None]:
    """Hold the entry against other processes, having waited for them."""
    lock = await in_thread(job.stop, _lock, job)
    try:
        await in_thread(job.stop, _take, lock, job)
        yield
    finally:
        await asyncio.to_thread(lock.release)


def _lock(job: Job) -> BaseFileLock:
    from filelock import FileLock

    try:
        job.staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise translated(error, job.staging) from error
    return FileLock(job.staging.with_name(f"{job.entry.name}.lock"), thread_local=False)


def _take(lock: BaseFileLock, job: Job) -> None:
    from filelock import Timeout

    try:
        while not job.stop.is_set():
            try:
                lock.acquire(timeout=LOCK_POLL_S, poll_interval=LOCK_POLL_S)
                return
            except Timeout:
                job.begin("waiting", message="another process pulls it")
    except OSError as error:
        raise translated(error, Path(lock.lock_file)) from error


def tidy(job: Job) -> None:
    """Remove what a pull that is over left behind."""
    shutil.rmtree(job.staging, ignore_errors=True)
    for file in job.entry.files:
        for suffix in (".part", ".tmp"):
            (job.folder / f"{file.path}{suffix}").unlink(missing_ok=True)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unreadable(error, path) from error


def _size_bytes(path: Path) -> int | None:
    stat = _stat(path)
    return stat.st_size if stat else None


def _unreadable(error: OSError, path: Path) -> Unavailable:
    return Unavailable(f"Cannot read {path}: {error.strerror or error}.", path=str(path))
