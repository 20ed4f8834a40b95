"""browser.open: a page in the person's own browser."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.tools import desktop
from sonia.tools.addresses import MAX_CHARS, parse
from sonia.tools.tool import Arguments, Grant, Intent, Tool

OPENED_S = 20.0


class BrowserOpenArguments(Arguments):
    """Which page."""

    url: Annotated[
        str,
        Meta(min_length=1, max_length=MAX_CHARS, description="Like https://example.org/page."),
    ]


class BrowserOpen(Tool[BrowserOpenArguments]):
    """The address as it is asked for is shown whole, in ASCII, and given on as one word."""

    name: ClassVar = "browser.open"
    description: ClassVar = "Open a web address in the user's browser. Asks the user first."
    arguments: ClassVar = BrowserOpenArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("opens a page in the browser",)
    aliases: ClassVar = ("browser.open_url", "web.open")
    outbound: ClassVar = True

    async def ready(self) -> None:
        await asyncio.to_thread(_program)

    async def plan(self, args: BrowserOpenArguments) -> Intent:
        address = parse(args.url)
        return Intent(preview=f"Open in the browser, at {address.host}:\n\n{address}")

    async def run(self, args: BrowserOpenArguments, grant: Grant) -> dict[str, Any]:
        address = str(parse(args.url))
        opener = await asyncio.to_thread(_program)
        await desktop.start([*opener, address], min(grant.timeout_s, OPENED_S))
        return {"opened": address}


def _program() -> list[str]:
    match sys.platform:
        case "darwin":
            return [desktop.program("open")]
        case "win32":
            return [desktop.program("rundll32"), "url.dll,FileProtocolHandler"]
        case _:
            if not desktop.has_display():
                raise desktop.NoDesktop("There is no desktop here, so no browser can be shown.")
            return [desktop.program("xdg-open")]
