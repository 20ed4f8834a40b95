"""One pool of connections for every provider that is spoken to directly."""

from __future__ import annotations

import asyncio
import base64
import ipaddress
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from sonia.errors import Unavailable
from sonia.router.backends.http1 import Answered, BrokenConnection, Line

CONNECT_S = 10.0
DRAIN_S = 0.1
IDLE_S = 60.0
_ALWAYS = "user-agent: sonia\r\naccept: */*\r\naccept-encoding: identity\r\n"
_SPLITS = re.compile(r"[\r\n\0]")

Place = tuple[str, str, int]  # scheme, host, port


class Wire:
    """Use `open_wire`. `offline` lets nothing through but this machine's own addresses."""

    def __init__(self, *, offline: bool = False) -> None:
        self._offline = offline
        self._idle: dict[Place, list[Line]] = {}
        self._open: set[Line] = set()
        self._heads: dict[tuple[str, str], tuple[Mapping[str, str], Place, bytes]] = {}
        self._proxies: dict[Place, str | None] = {}
        self._tls: ssl.SSLContext | None = None
        self._sweeping: asyncio.TimerHandle | None = None

    async def send(
        self, method: str, url: str, headers: Mapping[str, str], body: bytes | None = None
    ) -> Answered:
        """The answer's head; hand it to `leave` afterwards.

        Raises `OSError` when there is no connection, `ValueError` for what is not HTTP.
        """
        if self._offline and not is_loopback(url):
            raise Unavailable("services.model_router.offline is true: nothing outside is called.")
        known = self._heads.get((method, url))
        if known is None or known[0] is not headers:
            parts = urlsplit(url)
            place = _place(parts)
            known = (headers, place, _head(method, parts, headers, await self._proxy(place)))
            self._heads[method, url] = known
        _, place, head = known
        line = self._kept(place) or await self._connected(place)
        data = body or b""
        return await line.ask(b"%scontent-length: %d\r\n\r\n%s" % (head, len(data), data))

    async def leave(self, answer: Answered, *, whole: bool) -> None:
        """Keep the connection when the answer is `whole` and its end comes at once, or close it."""
        if whole and not answer.ended:
            try:
                async with asyncio.timeout(DRAIN_S):
                    while await answer.readany():
                        pass
            except (TimeoutError, OSError):
                pass
        line = answer.line
        if not (whole and answer.ended and line.usable) or line.place is None:
            line.abort()
            return
        line.idle_since_s = line.loop.time()
        self._idle.setdefault(line.place, []).append(line)
        if self._sweeping is None:
            self._sweeping = line.loop.call_later(IDLE_S, self._sweep)

    async def close(self) -> None:
        """Close every connection; return once they are."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        lines = tuple(self._open)
        for line in lines:
            line.abort()
        if lines:
            await asyncio.wait([line.lost for line in lines])

    # --- connections -------------------------------------------------------------------------

    def _kept(self, place: Place) -> Line | None:
        """One that was used last: others grow old and are closed."""
        kept = self._idle.get(place)
        while kept:
            line = kept.pop()
            if line.usable:
                return line
            line.abort()
        return None

    def _sweep(self) -> None:
        """Close what has been idle for long."""
        self._sweeping = None
        for place, lines in list(self._idle.items()):
            old_s = asyncio.get_running_loop().time() - IDLE_S
            for line in lines:
                if line.idle_since_s <= old_s:
                    line.abort()
            self._idle[place] = [line for line in lines if line.usable]
        if any(self._idle.values()):
            self._sweeping = asyncio.get_running_loop().call_later(IDLE_S, self._sweep)

    async def _connected(self, place: Place) -> Line:
        try:
            async with asyncio.timeout(CONNECT_S):
                proxy = await self._proxy(place)
                line = await (self._by(proxy, place) if proxy else self._straight(place))
        except TimeoutError as error:
            raise BrokenConnection("no connection could be made in time") from error
        line.place = place
        self._open.add(line)
        line.lost.add_done_callback(lambda _: self._open.discard(line))
        return line

    async def _straight(self, place: Place) -> Line:
        scheme, host, port = place
        tls = await self._context() if scheme == "https" else None
        _, line = await asyncio.get_running_loop().create_connection(Line, host, port, ssl=tls)
        return line

    async def _by(self, proxy: str, place: Place) -> Line:
        """By the environment's proxy: plain requests are sent to it, others go through a tunnel."""
        by, (scheme, host, port) = urlsplit(proxy), place
        line = await self._straight((by.scheme or "http", by.hostname or "", by.port or 80))
        if scheme == "http":
            return line
        words = f"CONNECT {_shown(host)}:{port} HTTP/1.1\r\nhost: {_shown(host)}:{port}\r\n"
        words += "".join(f"{name}: {value}\r\n" for name, value in _login(by).items())
        try:
            answer = await line.tunnel(f"{words}\r\n".encode())
            if answer.status != 200:
                raise BrokenConnection(f"the proxy answered {answer.status}")
            await line.secure(await self._context(), host)
        except BaseException:
            line.abort()
            raise
        return line

    async def _context(self) -> ssl.SSLContext:
        if self._tls is None:  # reads the machine's certificates
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        return self._tls

    async def _proxy(self, place: Place) -> str | None:
        """The environment's proxy for this address, looked up once."""
        if place not in self._proxies:
            self._proxies[place] = await asyncio.to_thread(_proxy_of, place)
        return self._proxies[place]


def _place(parts: SplitResult) -> Place:
    usual = 443 if parts.scheme == "https" else 80
    return parts.scheme, parts.hostname or "", parts.port or usual


def _head(method: str, parts: SplitResult, headers: Mapping[str, str], proxy: str | None) -> bytes:
    """All but the length. Raises `ValueError` for a header that would be two."""
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    named = {"host": parts.netloc, "content-type": "application/json", **headers}
    if proxy and parts.scheme == "http":
        target = f"http://{parts.netloc}{target}"
        named |= _login(urlsplit(proxy))
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    if _SPLITS.search("".join((target, *named, *named.values()))):
        raise ValueError("a header with a line's end in it")
    return f"{method} {target} HTTP/1.1\r\n{lines}{_ALWAYS}".encode()


def _login(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"proxy-authorization": f"Basic {base64.b64encode(login).decode()}"}


def _shown(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_of(place: Place) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    scheme, host, port = place
    if is_loopback(f"{scheme}://{_shown(host)}") or proxy_bypass(f"{_shown(host)}:{port}"):
        return None
    found: Any = getproxies().get(scheme)
    return found or None


@asynccontextmanager
async def open_wire(*, offline: bool = False) -> AsyncIterator[Wire]:
    """Leaving closes every connection."""
    wire = Wire(offline=offline)
    try:
        yield wire
    finally:
        await wire.close()
