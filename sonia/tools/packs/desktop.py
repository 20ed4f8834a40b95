"""The desktop: its windows, the keyboard, the pointer, and pictures of the screen.

What is typed goes to whichever window has the keyboard, and that window may be a terminal: so
typing is the highest tier, and each call names the window, which is brought to the front first.
"""

from __future__ import annotations

import asyncio
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from sonia.control import Tier
from sonia.tools import desktop
from sonia.tools.files import Workspace
from sonia.tools.interface import ArgumentsInvalid, FileChanged, ToolFailed
from sonia.tools.packs import windows
from sonia.tools.packs.windows import Number, Window
from sonia.tools.paths import hides
from sonia.tools.tool import Arguments, Grant, Intent, Tool, finished

MAX_CHARS = 2_000
MAX_PICTURE_BYTES = 64 * 1024 * 1024
BUTTONS = {"left": "1", "middle": "2", "right": "3"}
Pixels = Annotated[int, Meta(ge=0, le=100_000)]


class WindowArguments(Arguments):
    """Which window."""

    window: Number


A = TypeVar("A", bound=WindowArguments)


class WindowTool(Tool[A]):
    """One that acts on a window, which has to be the one that was shown."""

    async def ready(self) -> None:
        await asyncio.to_thread(windows.x11)

    async def plan(self, args: A) -> Intent:
        await self.ready()
        window = await windows.find(args.window)
        digests = {f"window-{args.window}": window.identity}
        return Intent(preview=self.shown(args, window), digests=digests)

    def shown(self, args: A, window: Window) -> str:
        """What would happen, in words."""
        raise NotImplementedError

    async def focused(self, args: A, grant: Grant) -> Window:
        """The window, in front. Raises `FileChanged` when it is another one by now."""
        window = await windows.find(args.window)
        if window.identity != grant.digests.get(f"window-{args.window}"):
            raise FileChanged("Another program's window has this number by now. Nothing was done.")
        await windows.focus(window)
        return window

    async def verify(self, args: A, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": await windows.focused() == args.window}


class WindowListArguments(Arguments):
    """Nothing to say."""


class WindowList(Tool[WindowListArguments]):
    """Titles are words of whoever made the window."""

    name: ClassVar = "window.list"
    description: ClassVar = "List the windows on the user's screen: number, title, program, place."
    arguments: ClassVar = WindowListArguments
    brings: ClassVar = "tool"

    async def ready(self) -> None:
        await asyncio.to_thread(windows.x11)

    async def plan(self, args: WindowListArguments) -> Intent:
        return Intent(preview="List the windows on the screen")

    async def run(self, args: WindowListArguments, grant: Grant) -> dict[str, Any]:
        found, focused = await windows.listed()
        return {"windows": msgspec.to_builtins(found), "focused": focused}


class WindowFocus(WindowTool[WindowArguments]):
    """Brings one to the front."""

    name: ClassVar = "window.focus"
    description: ClassVar = "Bring a window to the front and give it the keyboard. Asks first."
    arguments: ClassVar = WindowArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("brings a window to the front",)

    def shown(self, args: WindowArguments, window: Window) -> str:
        return f"Bring to the front: {window}"

    async def run(self, args: WindowArguments, grant: Grant) -> dict[str, Any]:
        window = await self.focused(args, grant)
        return {"window": window.window, "title": window.title}


class TypeArguments(WindowArguments):
    """Where to, and what."""

    text: Annotated[
        str, Meta(min_length=1, max_length=MAX_CHARS, description="A line's end is Return.")
    ]


class KeyboardType(WindowTool[TypeArguments]):
    """What is typed may be a command: nothing bounds what comes of it."""

    name: ClassVar = "keyboard.type"
    description: ClassVar = "Type a text into a window. Asks the user first."
    arguments: ClassVar = TypeArguments
    tier: ClassVar[Tier] = 3
    side_effects: ClassVar = ("types into a program",)

    async def plan(self, args: TypeArguments) -> Intent:
        if any(hides(char) for char in args.text if char not in "\n\t"):
            raise ArgumentsInvalid(
                "keyboard.type: the text has characters that don't show.", field="text"
            )
        return await super().plan(args)

    def shown(self, args: TypeArguments, window: Window) -> str:
        return f"Type into {window}:\n\n{args.text}"

    async def run(self, args: TypeArguments, grant: Grant) -> dict[str, Any]:
        await self.focused(args, grant)
        words = ("type", "--clearmodifiers", "--delay", "8", "--file", "-")
        await windows.tell(*words, given=args.text.encode())
        return {"window": args.window, "chars": len(args.text)}


class PressArguments(WindowArguments):
    """Where to, and which keys."""

    keys: Annotated[
        str,
        Meta(
            pattern=r"^((ctrl|alt|shift|super)\+){0,4}[A-Za-z0-9_]{1,32}$",
            description='Keys pressed together, like "ctrl+s", "Return" or "F5".',
        ),
    ]


class KeyboardPress(WindowTool[PressArguments]):
    """Like typing, for what is no text."""

    name: ClassVar = "keyboard.press"
    description: ClassVar = "Press keys together in a window. Asks the user first."
    arguments: ClassVar = PressArguments
    tier: ClassVar[Tier] = 3
    side_effects: ClassVar = ("presses keys in a program",)

    def shown(self, args: PressArguments, window: Window) -> str:
        return f"Press {args.keys} in {window}"

    async def run(self, args: PressArguments, grant: Grant) -> dict[str, Any]:
        await self.focused(args, grant)
        await windows.tell("key", "--clearmodifiers", args.keys)
        return {"window": args.window, "keys": args.keys}


class ClickArguments(WindowArguments):
    """Where in the window, from its upper left corner, and how."""

    x: Pixels
    y: Pixels
    button: Literal["left", "middle", "right"] = "left"
    clicks: Annotated[int, Meta(ge=1, le=3)] = 1


class PointerClick(WindowTool[ClickArguments]):
    """Only inside the window that was named."""

    name: ClassVar = "pointer.click"
    description: ClassVar = "Click at a place in a window. Asks the user first."
    arguments: ClassVar = ClickArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("moves the pointer and clicks in a program",)

    def shown(self, args: ClickArguments, window: Window) -> str:
        _inside(args, window)
        times = {1: "Click", 2: "Double-click"}.get(args.clicks, "Click three times")
        return f"{times} ({args.button}) at {args.x}, {args.y} in {window}"

    async def run(self, args: ClickArguments, grant: Grant) -> dict[str, Any]:
        window = await self.focused(args, grant)
        _inside(args, window)
        at = (window.x + args.x, window.y + args.y)
        repeat = ("--repeat", str(args.clicks), "--delay", "80", BUTTONS[args.button])
        await windows.tell("mousemove", str(at[0]), str(at[1]), "click", *repeat)
        return {"window": args.window, "x": at[0], "y": at[1], "clicks": args.clicks}

    async def verify(self, args: ClickArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": await windows.pointer() == (result["x"], result["y"])}


def _inside(args: ClickArguments, window: Window) -> None:
    if args.x >= window.width or args.y >= window.height:
        raise ArgumentsInvalid(
            f"{args.x}, {args.y} is not in the window: it is {window.width} by {window.height}.",
            field="x",
        )


class CaptureArguments(Arguments):
    """Where the picture goes."""

    path: Annotated[
        str,
        Meta(
            min_length=5,
            max_length=1_024,
            pattern=r"\.png$",
            description="A new file in the workspace, like screen.png.",
        ),
    ]


class ScreenCapture(Tool[CaptureArguments]):
    """Whatever is on the screen is private: so it asks, although it only looks."""

    name: ClassVar = "screen.capture"
    description: ClassVar = "Save a picture of the user's screen as a PNG file. Asks first."
    arguments: ClassVar = CaptureArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("writes a picture of the screen into the workspace",)
    brings: ClassVar = "tool"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = Workspace(workspace.root, MAX_PICTURE_BYTES)

    async def ready(self) -> None:
        windows.not_wayland()
        if not desktop.has_display():
            raise desktop.NoDesktop("There is no desktop here, so there is no screen.")

    async def plan(self, args: CaptureArguments) -> Intent:
        if await asyncio.to_thread(self._workspace.digest, args.path) is not None:
            raise ArgumentsInvalid(f"{args.path} is there already. Choose a new name.")
        name = PurePosixPath(args.path)
        return Intent(preview=f"Take a picture of the whole screen and save it as {name}")

    async def run(self, args: CaptureArguments, grant: Grant) -> dict[str, Any]:
        return await finished(asyncio.to_thread(self._capture, args.path))

    def _capture(self, path: str) -> dict[str, Any]:
        png, (width, height) = _picture()
        size, sha256 = self._workspace.write(path, png, "create", None)
        return {"path": path, "bytes": size, "sha256": sha256, "width": width, "height": height}

    async def verify(self, args: CaptureArguments, result: dict[str, Any]) -> dict[str, Any]:
        found = await asyncio.to_thread(self._workspace.digest, args.path)
        return {"ok": found == result["sha256"]}


def _picture() -> tuple[bytes, tuple[int, int]]:
    import mss
    from mss.exception import ScreenShotError
    from mss.tools import to_png

    try:
        with mss.MSS() as screen:
            taken = screen.grab(screen.monitors[0])
    except (ScreenShotError, OSError) as error:
        raise ToolFailed(f"The screen can't be seen: {error}.") from error
    png = to_png(taken.rgb, taken.size)
    if png is None:
        raise ToolFailed("The screen gave no picture.")
    return png, (taken.width, taken.height)


def tools(workspace: Workspace) -> tuple[Tool[Any], ...]:
    """The pack."""
    return (
        WindowList(),
        WindowFocus(),
        KeyboardType(),
        KeyboardPress(),
        PointerClick(),
        ScreenCapture(workspace),
    )
