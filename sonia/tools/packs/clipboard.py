"""The clipboard of the desktop: what is on it, and putting something there."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.tools import desktop
from sonia.tools.tool import Arguments, Grant, Intent, Tool

LIMIT_S = 10.0
MAX_CHARS = 100_000


class ClipboardReadArguments(Arguments):
    """Nothing to say."""


class ClipboardRead(Tool[ClipboardReadArguments]):
    """A password may lie there: so it asks, although it only reads."""

    name: ClassVar = "clipboard.read"
    description: ClassVar = "Read the text on the clipboard. Asks the user first."
    arguments: ClassVar = ClipboardReadArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("shows the clipboard to the model",)
    brings: ClassVar = "tool"

    async def ready(self) -> None:
        await asyncio.to_thread(_reader)

    async def plan(self, args: ClipboardReadArguments) -> Intent:
        return Intent(preview="Read what is on the clipboard")

    async def run(self, args: ClipboardReadArguments, grant: Grant) -> dict[str, Any]:
        text = await _read(grant.timeout_s)
        return {"text": text[:MAX_CHARS], "truncated": len(text) > MAX_CHARS}


class ClipboardWriteArguments(Arguments):
    """What goes there."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_CHARS, description="The text.")]


class ClipboardWrite(Tool[ClipboardWriteArguments]):
    """Reads back what it put there."""

    name: ClassVar = "clipboard.write"
    description: ClassVar = "Put a text on the clipboard."
    arguments: ClassVar = ClipboardWriteArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("replaces what is on the clipboard",)

    async def ready(self) -> None:
        await asyncio.to_thread(_writer)

    async def plan(self, args: ClipboardWriteArguments) -> Intent:
        return Intent(preview=f"Put on the clipboard:\n\n{args.text}")

    async def run(self, args: ClipboardWriteArguments, grant: Grant) -> dict[str, Any]:
        argv = await asyncio.to_thread(_writer)
        await desktop.start(argv, min(grant.timeout_s, LIMIT_S), args.text.encode())
        return {"chars": len(args.text)}

    async def verify(self, args: ClipboardWriteArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": await _read(LIMIT_S) == args.text}


async def _read(limit_s: float) -> str:
    argv = await asyncio.to_thread(_reader)
    said = await desktop.listen(argv, min(limit_s, LIMIT_S), 4 * MAX_CHARS)
    return said.decode("utf-8", "replace")


def _reader() -> list[str]:
    if sys.platform == "darwin":
        return [desktop.program("pbpaste")]
    if os.environ.get("WAYLAND_DISPLAY"):
        return [desktop.program("wl-paste"), "--no-newline"]
    _on_display()
    return [desktop.program("xclip"), "-selection", "clipboard", "-out"]


def _writer() -> list[str]:
    if sys.platform == "darwin":
        return [desktop.program("pbcopy")]
    if os.environ.get("WAYLAND_DISPLAY"):
        return [desktop.program("wl-copy")]
    _on_display()
    return [desktop.program("xclip"), "-selection", "clipboard", "-in"]


def _on_display() -> None:
    if not desktop.has_display():
        raise desktop.NoDesktop("There is no desktop here, so there is no clipboard.")


def tools() -> tuple[Tool[Any], ...]:
    """The pack."""
    return ClipboardRead(), ClipboardWrite()
