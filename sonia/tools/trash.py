"""Deleting that can be undone: a name is moved, whole and at once, to a folder of our own.

Everything goes by descriptor, a link is moved and not followed, and nothing that exists is ever
moved over. What was moved is compared with what was shown to the person, and put back when it
is something else. Everything here blocks.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sonia.tools.files import FileMissing, Workspace
from sonia.tools.interface import FileChanged, ToolFailed
from sonia.tools.paths import PathRefused, components
from sonia.types import Value

MAX_ENTRIES = 100_000
MAX_DEPTH = 64
TRASH = "trash"  # below the data folder
ITEM = "item"
MAX_READ_BYTES = 1_048_576
_NOREPLACE = 1
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Survey(Value):
    """What a name stands for. `digest` changes with anything in it; `names` are the first few."""

    kind: str
    files: int
    folders: int
    bytes: int
    digest: str
    names: tuple[str, ...] = ()


class Trash:
    """Deleted things of `workspace`, each below `root` in a folder named for its action."""

    def __init__(self, root: Path, workspace: Workspace) -> None:
        self._root = root
        self._workspace = workspace

    def survey(self, path: str) -> Survey:
        """Look at a file, link or folder. Raises `PathRefused`, `FileMissing`, `ToolFailed`."""
        with self._place(path) as (folder, name):
            return _survey(folder, name, path)

    def take(self, path: str, action_id: str, expected: str) -> None:
        """Move it here. Raises `FileChanged` when it is not what `expected` says."""
        with self._place(path) as (folder, name), self._bin(action_id, make=True) as bin_:
            if _survey(folder, name, path).digest != expected:
                raise FileChanged(f"{path} changed since this was planned. Nothing was deleted.")
            _move(folder, name, bin_, ITEM, path)
            if _survey(bin_, ITEM, path).digest != expected:
                _move(bin_, ITEM, folder, name, path)
                raise FileChanged(f"{path} changed while it was deleted. It was put back.")
            os.fsync(folder)
            os.fsync(bin_)

    def put_back(self, path: str, action_id: str) -> Survey:
        """Move it back to where it was, its folders made anew if need be.

        Raises `FileMissing` when it is not here, `ToolFailed` when its old place is taken.
        """
        names = components(path)
        with self._bin(action_id) as bin_, self._workspace.folder_for(path) as folder:
            found = _survey(bin_, ITEM, path)
            _move(bin_, ITEM, folder, names[-1], path)
            os.fsync(folder)
        self._drop(action_id)
        return found

    def items(self) -> tuple[str, ...]:
        """The actions that something here is of."""
        return tuple(item.name for item in self._root.iterdir()) if self._root.is_dir() else ()

    def remove(self, action_ids: Iterable[str]) -> None:
        """Remove for good what is of these actions."""
        for action_id in action_ids:
            shutil.rmtree(self._root / action_id, ignore_errors=True)

    def _drop(self, action_id: str) -> None:
        with suppress(OSError):
            (self._root / action_id).rmdir()

    @contextmanager
    def _place(self, path: str) -> Iterator[tuple[int, str]]:
        names = components(path)
        if not names:
            raise PathRefused(
                "The workspace itself is not deleted. Name a file or folder in it.", field="path"
            )
        with self._workspace.folder("/".join(names[:-1]) or ".") as folder:
            yield folder, names[-1]

    @contextmanager
    def _bin(self, action_id: str, *, make: bool = False) -> Iterator[int]:
        place = self._root / action_id
        if make:
            place.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            opened = os.open(place, _FOLDER)
        except FileNotFoundError as error:
            raise FileMissing("It is not in the trash any more.") from error
        try:
            yield opened
        finally:
            os.close(opened)


def held(place: Path) -> Iterator[bytes]:
    """What the files of one deleted thing hold, and their names; large ones by their beginning."""
    for folder, names, files in os.walk(place):
        yield from (os.fsencode(name) for name in (*names, *files))
        for name in files:
            path = Path(folder) / name
            if path.is_symlink() or not path.is_file():
                continue
            with suppress(OSError), path.open("rb") as file:
                yield file.read(MAX_READ_BYTES)


def _survey(folder: int, name: str, path: str) -> Survey:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError as error:
        raise FileMissing(f"There is no {path} in the workspace.", path=path) from error
    whole = hashlib.sha256()
    if not stat.S_ISDIR(found.st_mode):
        whole.update(_mark("", found))
        kind = "link" if stat.S_ISLNK(found.st_mode) else "file"
        return Survey(
            kind=kind, files=1, folders=0, bytes=found.st_size, digest=f"tree:{whole.hexdigest()}"
        )
    counts = {"files": 0, "folders": 0, "bytes": 0}
    names: list[str] = []
    for place, folders, files, opened in os.fwalk(name, dir_fd=folder):
        folders.sort()
        inner = place[len(name) :].lstrip("/")
        if inner.count("/") >= MAX_DEPTH or counts["files"] + counts["folders"] > MAX_ENTRIES:
            raise ToolFailed(f"{path} has too much in it to be deleted at once.")
        for item in sorted([*files, *folders]):
            entry = os.stat(item, dir_fd=opened, follow_symlinks=False)
            shown = f"{inner}/{item}".lstrip("/")
            whole.update(_mark(shown, entry))
            if stat.S_ISDIR(entry.st_mode):
                counts["folders"] += 1
                continue
            counts["files"] += 1
            counts["bytes"] += entry.st_size
            if len(names) < 20:
                names.append(shown.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
    return Survey(kind="folder", digest=f"tree:{whole.hexdigest()}", names=tuple(names), **counts)


def _mark(name: str, found: os.stat_result) -> bytes:
    size = 0 if stat.S_ISDIR(found.st_mode) else found.st_size
    changed = 0 if stat.S_ISDIR(found.st_mode) else found.st_mtime_ns
    facts = (found.st_mode, size, changed, found.st_ino)
    return os.fsencode(name) + b"\0" + repr(facts).encode() + b"\0"


def _move(source: int, name: str, target: int, new: str, path: str) -> None:
    """Rename, never over what exists. Raises `ToolFailed`."""
    try:
        _rename(source, name, target, new)
    except FileExistsError as error:
        raise ToolFailed(f"Something else is at {path} now. Move it away first.") from error
    except OSError as error:
        if error.errno == errno.EXDEV:
            raise ToolFailed(
                "The workspace and the data folder are on different disks, so nothing can be "
                "moved to the trash. Put paths.data on the workspace's disk."
            ) from error
        raise ToolFailed(f"{path} can't be moved: {error.strerror}.") from error


def _rename(source: int, name: str, target: int, new: str) -> None:
    if sys.platform == "linux":
        rename = ctypes.CDLL(None, use_errno=True).renameat2
        old, after = os.fsencode(name), os.fsencode(new)
        if rename(source, old, target, after, _NOREPLACE) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.ENOSYS, errno.EINVAL):
            raise OSError(code, os.strerror(code))
    with suppress(FileNotFoundError):  # a file system without it: look first
        os.stat(new, dir_fd=target, follow_symlinks=False)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
