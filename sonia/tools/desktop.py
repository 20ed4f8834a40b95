"""Programs of the person's desktop, started with a fixed environment and without a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading

from sonia.errors import Unavailable
from sonia.tools.interface import ToolFailed

PASSED_ON = (
    "DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS",
    "XDG_CURRENT_DESKTOP", "XDG_DATA_DIRS", "HOME", "USER", "PATH", "LANG",
)  # fmt: skip
KEPT_ERROR_BYTES = 2_000


class NoDesktop(Unavailable):
    """There is no desktop, or it lacks the program; `message` says which."""

    retryable = False


def program(*names: str) -> str:
    """Where the first of these programs is. Raises `NoDesktop`."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise NoDesktop(
        f"This needs the program {' or '.join(names)}, and there is none here. Install it with "
        "the system's own installer."
    )


def has_display() -> bool:
    """Whether windows can be shown."""
    if sys.platform in ("darwin", "win32"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def environment() -> dict[str, str]:
    """What a program of the desktop is given of our own environment."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


async def start(argv: list[str], limit_s: float, given: bytes | None = None) -> None:
    """Run `argv` to its end, `given` on its standard input.

    Raises `ToolFailed` with what it said, or its time. What it leaves running stays.
    """
    await _run(argv, limit_s, given, asyncio.subprocess.DEVNULL)


async def listen(argv: list[str], limit_s: float, most: int) -> bytes:
    """What `argv` writes, at most `most` bytes of it. Raises `ToolFailed`, with what it `said`."""
    return (await _run(argv, limit_s, None, asyncio.subprocess.PIPE))[:most]


async def launch(argv: list[str]) -> int:
    """Start `argv` and leave it running; its process. Raises `ToolFailed`."""
    return await asyncio.to_thread(_launch, argv)


def _launch(argv: list[str]) -> int:
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolFailed(f"{argv[0]} can't be started: {error.strerror}.") from error
    threading.Thread(target=process.wait, daemon=True, name=f"waits-for-{process.pid}").start()
    return process.pid


async def _run(argv: list[str], limit_s: float, given: bytes | None, out: int) -> bytes:
    """A file takes its complaints: a program that goes on behind would hold a pipe open."""
    with tempfile.TemporaryFile() as complaints:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL if given is None else asyncio.subprocess.PIPE,
            stdout=out,
            stderr=complaints,
            env=environment(),
            cwd="/",
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(limit_s):
                said, _ = await process.communicate(given)
        except TimeoutError as error:
            raise ToolFailed(f"{argv[0]} did not end within {limit_s:g} s.") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            complaints.seek(0)
            why = complaints.read(KEPT_ERROR_BYTES).decode("utf-8", "replace").strip()
            told = why or f"status {process.returncode}"
            raise ToolFailed(f"{argv[0]} failed: {told}.", said=why)
    return said or b""
