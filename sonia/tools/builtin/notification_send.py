"""notification.send: a few words on the desktop."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.errors import SoniaError
from sonia.tools import desktop
from sonia.tools.tool import Arguments, Grant, Intent, Tool

SHOWN_S = 10.0
_APPLE = "on run argv\ndisplay notification (item 2 of argv) with title (item 1 of argv)\nend run"


class NotificationSendArguments(Arguments):
    """What is shown."""

    message: Annotated[str, Meta(min_length=1, max_length=1_000, description="What to show.")]
    title: Annotated[str, Meta(min_length=1, max_length=100)] = "Sonia"


class NotificationSend(Tool[NotificationSendArguments]):
    """notify-send (freedesktop.org's notifications) or, on a Mac, osascript."""

    name: ClassVar = "notification.send"
    description: ClassVar = "Show the user a notification on the desktop."
    arguments: ClassVar = NotificationSendArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("shows a notification",)
    aliases: ClassVar = ("notify", "desktop.notify")

    async def ready(self) -> None:
        await asyncio.to_thread(_program)

    async def plan(self, args: NotificationSendArguments) -> Intent:
        return Intent(preview=f"Show a notification\n\n{args.title}\n{args.message}")

    async def run(self, args: NotificationSendArguments, grant: Grant) -> dict[str, Any]:
        argv = _words(await asyncio.to_thread(_program), args)
        await desktop.start(argv, min(grant.timeout_s, SHOWN_S))
        return {"shown": True, "title": args.title, "message": args.message}

    async def verify(self, args: NotificationSendArguments, result: dict[str, Any]) -> None:
        """Nothing can be seen of it: the desktop took it, or `run` failed."""


async def show(title: str, message: str) -> bool:
    """Show one of Sonia's own; False where there is no desktop to show it on."""
    args = NotificationSendArguments(title=title, message=message[:1_000])
    try:
        argv = _words(await asyncio.to_thread(_program), args)
        await desktop.start(argv, SHOWN_S)
    except SoniaError:
        return False
    return True


def _program() -> str:
    return desktop.program("osascript" if sys.platform == "darwin" else "notify-send")


def _words(program: str, args: NotificationSendArguments) -> list[str]:
    if sys.platform == "darwin":
        return [program, "-e", _APPLE, args.title, args.message]
    return [program, "--app-name=Sonia", "--", args.title, args.message]
