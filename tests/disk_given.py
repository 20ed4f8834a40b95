"""A small disk of its own, where the machine lets us mount one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Path]:
    """A tmpfs of this size at `folder`; skips the test where none can be mounted."""
    if os.name == "nt" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can be mounted by root only")
    folder.mkdir(parents=True)
    mounted = _mount("-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(folder))
    if mounted.returncode:
        pytest.skip(f"a small disk can't be mounted here: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def resize(folder: Path, size_bytes: int) -> None:
    """Make the disk larger or smaller; what is on it stays."""
    done = _mount("-o", f"remount,size={size_bytes}", str(folder))
    assert done.returncode == 0, done.stderr


def leave_free(folder: Path, size_bytes: int) -> None:
    """Fill the disk with a file until so much is free."""
    ballast = folder / "ballast"
    ballast.unlink(missing_ok=True)
    filling = shutil.disk_usage(folder).free - size_bytes
    if filling > 0:
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, filling)


def _mount(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["mount", *arguments], capture_output=True, text=True)
