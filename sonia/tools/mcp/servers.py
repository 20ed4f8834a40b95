"""The MCP servers of the configuration: started, watched, started again, their tools offered."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sonia.config import McpServer, OpenClaw, Secret
from sonia.control import Control
from sonia.errors import PolicyDenied, SoniaError, Unavailable
from sonia.log import get_logger
from sonia.tools.bubblewrap import SandboxMissing
from sonia.tools.mcp import definitions
from sonia.tools.mcp.definitions import Definition
from sonia.tools.mcp.line import METHOD_NOT_FOUND, Line, Pipes, Refused, ServerGone
from sonia.tools.mcp.pins import Pins
from sonia.tools.mcp.room import HOME, Around, sandboxed
from sonia.tools.mcp.tool import tool_of
from sonia.tools.mcp.web_line import WebLine
from sonia.tools.tasks import Tasks
from sonia.tools.tool import Tool
from sonia.version import VERSION

if TYPE_CHECKING:
    from sonia.db import Database

OLDER, NEWER = "2025-11-25", "2026-07-28"
UNSUPPORTED_VERSION = -32022
META = "io.modelcontextprotocol/"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
MAX_PAGES = 20
LOOPBACK = ("127.0.0.1", "::1", "localhost")


Offer = Callable[[str, tuple[Tool[Any], ...]], None]


class DefinitionChanged(PolicyDenied):
    """A tool is not what was accepted; `details["approval_id"]` is the question about it."""


class Connected:
    """One server of the configuration. `state` is told in health."""

    def __init__(
        self, name: str, config: McpServer, around: Around, pins: Pins, offer: Offer
    ) -> None:
        self.name = name
        self.whereabouts = config.url or " ".join(config.command)
        self.state = "starting"
        self.up = asyncio.Event()
        self.moved = asyncio.Event()
        self._config = config
        self._around = around
        self._pins = pins
        self._offer = offer
        self._line: Line | None = None
        self._meta: dict[str, Any] = {}
        self._changed = asyncio.Event()
        self._found: dict[str, Definition] = {}
        self._log = get_logger("openclaw")

    async def keep(self) -> None:
        """Connect, and again whenever it ends, waiting longer each time. Ends when cancelled."""
        wait_s = FIRST_WAIT_S
        while True:
            began_s = time.monotonic()
            try:
                await self._once()
            except TimeoutError:
                why = f"It did not answer within {self._config.timeout_s:g} s."
            except SoniaError as error:
                why = error.message
            if time.monotonic() - began_s > LONGEST_WAIT_S:
                wait_s = FIRST_WAIT_S
            self.up.clear()
            self._now(f"down: {why}")
            self._log.warning("mcp server down", server=self.name, why=why, again_in_s=wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    async def _once(self) -> None:
        """One connection, from its beginning to its end. Raises `ServerGone` at the latest then."""
        try:
            async with asyncio.timeout(self._config.timeout_s):
                line = self._line = await self._connect()
                await self._greet(line)
                await self._list(line)
            self.up.set()
            while not line.closed.is_set():
                await _either(line.closed, self._changed)
                if self._changed.is_set():
                    self._changed.clear()
                    async with asyncio.timeout(self._config.timeout_s):
                        await self._list(line)
            raise ServerGone(line.why or "It hung up.")
        finally:
            if self._line:
                gone, self._line = self._line, None
                await asyncio.shield(gone.close())

    async def _connect(self) -> Line:
        if self._config.url:
            return WebLine(self._config.url, _plain(self._config.headers), self._changed.set)
        command, env = list(self._config.command), _plain(self._config.env)
        if self._config.sandbox:
            command = await asyncio.to_thread(self._sandboxed)
            env = {"HOME": HOME, "TMPDIR": HOME, **env}
        return await Pipes.open(self.name, command, env, self._changed.set)

    def _sandboxed(self) -> list[str]:
        if shutil.which(self._config.command[0]) is None:
            raise ServerGone(f"{self._config.command[0]!r} can't be started: there is none.")
        try:
            return sandboxed(self._config, self._around)
        except SandboxMissing as error:
            remedy = f"Set services.openclaw.mcp.{self.name}.sandbox = false if you trust it."
            raise ServerGone(f"{error.message} {remedy}") from error

    async def _greet(self, line: Line) -> None:
        """The older era's handshake; a server that knows only the newer one has none."""
        about = {"name": "sonia", "version": VERSION}
        self._meta = {}
        params = {"protocolVersion": OLDER, "capabilities": {}, "clientInfo": about}
        try:
            answer = await line.request("initialize", params)
            version = str(answer.get("protocolVersion", OLDER))
        except Refused as error:
            if error.number not in (METHOD_NOT_FOUND, UNSUPPORTED_VERSION, -32600):
                raise
            version = NEWER
            self._meta = {
                META + "protocolVersion": NEWER,
                META + "clientInfo": about,
                META + "clientCapabilities": {},
            }
        if isinstance(line, WebLine):
            line.speaks(version)
        if not self._meta:
            await line.notify("notifications/initialized", {})

    def _params(self, **params: Any) -> dict[str, Any]:
        return {**params, "_meta": self._meta} if self._meta else params

    async def _list(self, line: Line) -> None:
        """Read the tools and offer them. The first definition ever seen is the accepted one."""
        listed: list[Any] = []
        params = self._params()
        for _ in range(MAX_PAGES):
            page = await line.request("tools/list", params)
            tools, cursor = page.get("tools"), page.get("nextCursor")
            listed += tools if isinstance(tools, list) else []
            if not isinstance(cursor, str):
                break
            params = self._params(cursor=cursor)
        found = await asyncio.to_thread(definitions.read, self.name, listed)
        known = await self._pins.known(self.name)
        await self._pins.accept(self.name, *(one for one in found if one.theirs not in known))
        known = await self._pins.known(self.name)
        self._found = {one.theirs: one for one in found}
        fit = (one if known[one.theirs] == one.digest else definitions.held(one) for one in found)
        self._offer(f"mcp.{self.name}.", tuple(tool_of(self, one) for one in fit))
        self._now(f"ready, {len(found)} tools")

    def _now(self, state: str) -> None:
        self.state = state
        self.moved.set()
        self.moved = asyncio.Event()

    # --- what its tools use --------------------------------------------------------------

    async def check(self, definition: Definition) -> None:
        """Raises `Unavailable`, and `DefinitionChanged`, having asked the person."""
        if self._line is None or self._line.closed.is_set() or not self.up.is_set():
            raise Unavailable(f"The MCP server {self.name} is not there ({self.state}).")
        known = await self._pins.known(self.name)
        if known.get(definition.theirs) == definition.digest:
            return
        now = self._found.get(definition.theirs, definition)
        approval_id = await self._pins.ask(self.name, now, self._changed.set)
        raise DefinitionChanged(
            f"{self.name} defines {definition.theirs} otherwise than when it was accepted. Look at "
            f"it and approve {approval_id} (sonia approvals show {approval_id}), then try again.",
            approval_id=approval_id,
        )

    async def call(self, theirs: str, args: dict[str, Any]) -> dict[str, Any]:
        """Raises `ServerGone`, `Refused`."""
        if self._line is None:
            raise ServerGone(f"The MCP server {self.name} is not there ({self.state}).")
        try:
            return await self._line.request("tools/call", self._params(name=theirs, arguments=args))
        except ServerGone as error:
            told = f"The MCP server {self.name} is gone: {error.message} It is started again."
            raise ServerGone(told) from error


class Servers:
    """All of them."""

    def __init__(self, connected: Mapping[str, Connected]) -> None:
        self._connected = connected

    async def up(self, name: str) -> None:
        """Wait until the server of this name has told its tools."""
        await self._connected[name].up.wait()

    async def moved(self, name: str) -> str:
        """Wait until the next that becomes of it, and return its state."""
        await self._connected[name].moved.wait()
        return self._connected[name].state

    def states(self) -> dict[str, str]:
        """How each is, by name."""
        return {name: server.state for name, server in self._connected.items()}


@asynccontextmanager
async def open_servers(
    config: OpenClaw,
    around: Around,
    offer: Offer,
    control: Control,
    db: Database,
    tasks: Tasks,
) -> AsyncIterator[Servers]:
    """Keep connections to the configured servers; `offer` is told their tools, by prefix.

    Their programs are walled off from what is `around`. Waits for none of them. Leaving ends them.
    """
    pins = Pins(db, control, tasks)
    connected = {
        name: Connected(name, server, around, pins, offer) for name, server in config.mcp.items()
    }
    for name, server in config.mcp.items():
        if server.url and (why := _out_of_reach(server.url, config)):
            connected[name].state = f"down: {why}"
    keeping = [
        asyncio.create_task(server.keep(), name=f"mcp {name}")
        for name, server in connected.items()
        if server.state == "starting"
    ]
    try:
        yield Servers(connected)
    finally:
        for task in keeping:
            task.cancel()
        await asyncio.gather(*keeping, return_exceptions=True)
        pins.close()


def _plain(secrets: Mapping[str, Secret]) -> dict[str, str]:
    return {name: secret.reveal() for name, secret in secrets.items()}


def _out_of_reach(url: str, config: OpenClaw) -> str | None:
    host = (urlsplit(url).hostname or "").lower()
    if host in LOOPBACK or config.egress in ("open", "lan"):
        return None
    if config.egress == "allow-list" and host in config.egress_hosts:
        return None
    return f"services.openclaw.egress is {config.egress}, and {host} is not this machine."


async def _either(*events: asyncio.Event) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*waiting, return_exceptions=True)
