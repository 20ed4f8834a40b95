"""The windows of an X11 desktop, as xdotool sees and moves them."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated

from msgspec import Meta

from sonia.errors import NotFound
from sonia.tools import desktop
from sonia.tools.interface import ToolFailed
from sonia.types import Value

LIMIT_S = 10.0
MOST = 50
MAX_BYTES = 65_536
Number = Annotated[int, Meta(ge=1, description="Its number, from window.list.")]


class WindowMissing(NotFound):
    """No window has this number, or it was closed."""


class Window(Value):
    """A visible window with a title. `x` and `y` are of its upper left corner, in pixels."""

    window: int
    title: str
    program: str
    pid: int
    x: int
    y: int
    width: int
    height: int

    @property
    def identity(self) -> str:
        """What makes another window of the same number another one. Its title may change."""
        return f"{self.program} {self.pid}"

    def __str__(self) -> str:
        return f'"{self.title}" ({self.program or "unknown program"}, window {self.window})'


def x11() -> None:
    """Raise `NoDesktop` where the windows of others can't be reached, and say why."""
    if sys.platform != "linux":
        raise desktop.NoDesktop("Windows, keyboard and pointer are reached under X11 only (Linux).")
    not_wayland()
    if not os.environ.get("DISPLAY"):
        raise desktop.NoDesktop("There is no desktop here: DISPLAY is not set.")
    desktop.program("xdotool")


def not_wayland() -> None:
    """Raise `NoDesktop` under Wayland."""
    if os.environ.get("WAYLAND_DISPLAY"):
        raise desktop.NoDesktop(
            "Wayland lets no program see or use other programs' windows. Log in to an X11 session "
            '("on Xorg") for this.'
        )


async def listed() -> tuple[tuple[Window, ...], int | None]:
    """The visible windows, and the number of the one with the keyboard."""
    try:
        numbers = (await _ask("search", "--onlyvisible", "--name", ".")).split()[:MOST]
    except ToolFailed as error:
        if error.details.get("said"):
            raise
        numbers = []  # it fails without a word when there is none
    found = [window for number in numbers if (window := await _look(int(number)))]
    return tuple(found), await focused()


async def find(number: int) -> Window:
    """Raises `WindowMissing`."""
    if window := await _look(number):
        return window
    raise WindowMissing(f"There is no window {number}. Look again with window.list.", window=number)


async def focused() -> int | None:
    """The window that has the keyboard."""
    for question in ("getactivewindow", "getwindowfocus"):
        try:
            return int(await _ask(question))
        except (ToolFailed, ValueError):  # no window manager, or none has it
            continue
    return None


async def focus(window: Window) -> None:
    """Bring it to the front and give it the keyboard. Raises `ToolFailed`."""
    number = str(window.window)
    try:
        await tell("windowactivate", "--sync", number)
    except ToolFailed:  # there is no window manager to ask
        await tell("windowraise", number, "windowfocus", "--sync", number)
    if await focused() != window.window:
        raise ToolFailed(f"The desktop did not give the keyboard to {window}. Nothing was sent.")


async def pointer() -> tuple[int, int]:
    """Where the pointer is, in pixels from the upper left corner."""
    told = _fields(await _ask("getmouselocation", "--shell"))
    return int(told["X"]), int(told["Y"])


async def tell(*words: str, given: bytes | None = None) -> None:
    """Have xdotool do it. Raises `ToolFailed`."""
    program = await asyncio.to_thread(desktop.program, "xdotool")
    await desktop.start([program, *words], LIMIT_S, given)


async def _ask(*words: str) -> str:
    program = await asyncio.to_thread(desktop.program, "xdotool")
    return (await desktop.listen([program, *words], LIMIT_S, MAX_BYTES)).decode("utf-8", "replace")


async def _look(number: int) -> Window | None:
    """None when it is gone by now."""
    try:
        title = (await _ask("getwindowname", str(number))).strip()
        place = _fields(await _ask("getwindowgeometry", "--shell", str(number)))
    except ToolFailed:
        return None
    try:
        pid = int(await _ask("getwindowpid", str(number)))
    except (ToolFailed, ValueError):  # not every window says
        pid = 0
    at, size = (int(place["X"]), int(place["Y"])), (int(place["WIDTH"]), int(place["HEIGHT"]))
    return Window(
        window=number,
        title=title,
        program=await asyncio.to_thread(_program, pid),
        pid=pid,
        x=at[0],
        y=at[1],
        width=size[0],
        height=size[1],
    )


def _program(pid: int) -> str:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        return str(psutil.Process(pid).name()) if pid else ""
    except psutil.Error:
        return ""


def _fields(told: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in told.splitlines())
    return {key: value for key, _, value in pairs}
