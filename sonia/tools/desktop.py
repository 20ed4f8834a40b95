"""Programs of the person's desktop, started with a fixed environment and without a shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys

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


async def start(argv: list[str], limit_s: float) -> int:
    """Run `argv` to its end and return 0. Raises `ToolFailed` with what it said, or its time."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        env=environment(),
        cwd="/",
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(limit_s):
            _, said = await process.communicate()
    except TimeoutError as error:
        raise ToolFailed(f"{argv[0]} did not end within {limit_s:g} s.") from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode:
        why = said[:KEPT_ERROR_BYTES].decode("utf-8", "replace").strip()
        raise ToolFailed(f"{argv[0]} failed: {why or f'status {process.returncode}'}.")
    return 0
