"""The workspace, reached by descriptor.

Every path is walked one component at a time from a descriptor of the workspace's folder, never
following a link, so nothing that is renamed or linked meanwhile leads outside. Files are regular
files with one name, and a file is replaced whole or not at all. Everything here blocks: call it
in a thread.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Literal

from sonia.errors import NotFound, PayloadTooLarge, SoniaError, StorageFull, Unavailable
from sonia.tools.interface import FileChanged, ToolFailed
from sonia.tools.paths import PathRefused, components
from sonia.types import Value

Mode = Literal["create", "replace", "append"]
Kind = Literal["file", "folder", "link", "other"]

MAX_HASHED_BYTES = 64 * 1024 * 1024

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_INSIDE = _FOLDER | os.O_NOFOLLOW
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class FileMissing(NotFound):
    """Nothing has this name in the workspace."""


class FileTooLarge(PayloadTooLarge):
    """Over the limit that `details` names, in bytes."""


class Listed(Value):
    """One name in a folder. `bytes` is the size of a file, else None."""

    name: str
    kind: Kind
    bytes: int | None = None


class Workspace:
    """Files below `root`. `max_bytes` bounds what is read or written at once."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self.root = root
        self.max_bytes = max_bytes

    def prepare(self) -> None:
        """Make the folder if it is not there. Raises `Unavailable`."""
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise Unavailable(
                f"The workspace {self.root} can't be made: {error.strerror}."
            ) from error

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises `PathRefused`, `FileMissing`, `FileTooLarge`."""
        with self._folder(components(path)[:-1], path) as folder:
            return self._read(folder, _name(path), path)

    def open(self, path: str) -> BinaryIO:
        """A file, to read from its beginning. Raises `PathRefused`, `FileMissing`."""
        with (
            self._folder(components(path)[:-1], path) as folder,
            _opened(folder, _name(path), path) as file,
        ):
            return os.fdopen(os.dup(file), "rb")

    def digest(self, path: str) -> str | None:
        """The SHA-256 of a file, or None when nothing has this name.

        A file over `MAX_HASHED_BYTES` is known by size, time and inode instead. Raises
        `PathRefused` for what is there and is not a plain file.
        """
        try:
            with (
                self._folder(components(path)[:-1], path) as folder,
                _opened(folder, _name(path), path) as file,
            ):
                found = os.fstat(file)
                if found.st_size > max(MAX_HASHED_BYTES, self.max_bytes):
                    return f"stat:{found.st_size}:{found.st_mtime_ns}:{found.st_ino}"
                with os.fdopen(os.dup(file), "rb") as stream:
                    return hashlib.file_digest(stream, "sha256").hexdigest()
        except FileMissing:
            return None

    @contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A folder's descriptor. Raises `PathRefused`, `FileMissing`."""
        with self._folder(components(path), path) as folder:
            yield folder

    @contextmanager
    def folder_for(self, path: str) -> Iterator[int]:
        """The folder that `path` is to be in, made with those on the way. Raises `PathRefused`."""
        _name(path)
        with _disk(path), self._folder(components(path)[:-1], path, make=True) as folder:
            yield folder

    def remove(self, path: str, expected: str) -> None:
        """Unlink a file that is still what its digest says. Raises `FileChanged`."""
        name = _name(path)
        with _disk(path), self._folder(components(path)[:-1], path) as folder:
            if _sha256(self._before(folder, name, path)[0]) != expected:
                raise FileChanged(f"{path} changed meanwhile. Nothing was removed.")
            os.unlink(name, dir_fd=folder)
            os.fsync(folder)

    def list(self, path: str, limit: int) -> tuple[tuple[Listed, ...], int]:
        """The first `limit` names of a folder, sorted, and how many there are."""
        with self._folder(components(path), path) as folder:
            names = sorted(os.listdir(folder))  # noqa: PTH208  by descriptor
            return tuple(_listed(folder, name) for name in names[:limit]), len(names)

    def write(self, path: str, content: bytes, mode: Mode, expected: str | None) -> tuple[int, str]:
        """Put `content` there, durably and whole; return the file's size in bytes and SHA-256.

        `expected` is the digest of what was there when this was planned (None: nothing was).
        Folders on the way are made. Raises `FileChanged` when something else is there now,
        `ToolFailed` when `create` finds a file, `FileTooLarge`, `StorageFull`.
        """
        name = _name(path)
        with _disk(path), self._folder(components(path)[:-1], path, make=True) as folder:
            before, bits = self._before(folder, name, path)
            if mode == "create" and before is not None:
                raise ToolFailed(f"{path} exists already. Use mode replace or append.")
            if _sha256(before) != expected:
                raise FileChanged(f"{path} changed since this was planned. Nothing was written.")
            whole = (before or b"") + content if mode == "append" else content
            if len(whole) > self.max_bytes:
                raise _too_large(path, len(whole), self.max_bytes)
            _replace(folder, name, whole, bits, new=before is None)
        return len(whole), hashlib.sha256(whole).hexdigest()

    def _before(self, folder: int, name: str, path: str) -> tuple[bytes | None, int]:
        try:
            with _opened(folder, name, path) as file:
                return self._all(file, path), stat.S_IMODE(os.fstat(file).st_mode) & 0o777
        except FileMissing:
            return None, 0o644

    def _read(self, folder: int, name: str, path: str) -> bytes:
        with _opened(folder, name, path) as file:
            return self._all(file, path)

    def _all(self, file: int, path: str) -> bytes:
        size = os.fstat(file).st_size
        with os.fdopen(os.dup(file), "rb") as stream:
            content = stream.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise _too_large(path, max(size, len(content)), self.max_bytes)
        return content

    @contextmanager
    def _folder(self, names: tuple[str, ...], path: str, *, make: bool = False) -> Iterator[int]:
        """Walk down `names`, never through a link; yield the last folder's descriptor."""
        try:
            folder = os.open(self.root, _FOLDER)
        except OSError as error:
            raise Unavailable(
                f"The workspace {self.root} can't be opened: {error.strerror}."
            ) from error
        try:
            for name in names:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=folder)
                with _named(path):
                    inner = os.open(name, _INSIDE, dir_fd=folder)
                os.close(folder)
                folder = inner
            yield folder
        finally:
            os.close(folder)


@contextmanager
def _opened(folder: int, name: str, path: str) -> Iterator[int]:
    with _named(path):
        _plain(os.stat(name, dir_fd=folder, follow_symlinks=False), path)
        file = os.open(name, _FILE, dir_fd=folder)
    try:
        _plain(os.fstat(file), path)
        yield file
    finally:
        os.close(file)


def _plain(found: os.stat_result, path: str) -> None:
    if stat.S_ISLNK(found.st_mode):
        raise PathRefused(f"{path} is a link. Links are not followed.", field="path")
    if stat.S_ISDIR(found.st_mode):
        raise PathRefused(f"{path} is a folder. Use file.list.", field="path")
    if not stat.S_ISREG(found.st_mode):
        raise PathRefused(f"{path} is a pipe, socket or device, not a file.", field="path")
    if found.st_nlink != 1:
        raise PathRefused(f"{path} has a second name (a hard link) elsewhere.", field="path")


@contextmanager
def _named(path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(f"There is no {path} in the workspace.", path=path) from error
    except PermissionError as error:
        raise PathRefused(f"{path} may not be opened by this user.", field="path") from error
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.EMLINK):
            raise
        raise PathRefused(
            f"{path} goes through something that is not a plain folder. Links are not followed.",
            field="path",
        ) from error


@contextmanager
def _disk(path: str) -> Iterator[None]:
    try:
        yield
    except SoniaError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFull(f"No room for {path}; what was there is unchanged.") from error
        raise ToolFailed(
            f"{path} could not be written: {os.strerror(error.errno or 0)}."
        ) from error


def _replace(folder: int, name: str, content: bytes, bits: int, *, new: bool) -> None:
    """Write beside and rename: a reader sees the old file or the new one, whole."""
    beside = f".sonia-{secrets.token_hex(8)}.part"
    file = os.open(beside, _NEW, 0o600, dir_fd=folder)
    try:
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(file, rest) :]
            os.fchmod(file, bits)
            os.fsync(file)
        finally:
            os.close(file)
        if new:
            os.link(beside, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        else:
            os.rename(beside, name, src_dir_fd=folder, dst_dir_fd=folder)
            beside = ""
    finally:
        if beside:
            os.unlink(beside, dir_fd=folder)
    os.fsync(folder)


def _listed(folder: int, name: str) -> Listed:
    shown = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return Listed(name=shown, kind="other")
    if stat.S_ISREG(found.st_mode):
        return Listed(name=shown, kind="file", bytes=found.st_size)
    if stat.S_ISDIR(found.st_mode):
        return Listed(name=shown, kind="folder")
    return Listed(name=shown, kind="link" if stat.S_ISLNK(found.st_mode) else "other")


def _name(path: str) -> str:
    names = components(path)
    if not names:
        raise PathRefused(f"'{path}' is the workspace itself, not a file in it.", field="path")
    return names[-1]


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _too_large(path: str, size: int, limit: int) -> FileTooLarge:
    return FileTooLarge(
        f"{path} has {size} bytes; at most {limit} are possible here.", bytes=size, limit=limit
    )
