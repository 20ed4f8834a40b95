"""One pooled HTTP client for every provider that is spoken to directly."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sonia.errors import Unavailable

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0
DRAIN_S = 0.1
IDLE_S = 60.0


class Wire:
    """Use `open_wire`. The client is made, and its library imported, at the first call.

    `offline` lets nothing through but this machine's own addresses.
    """

    def __init__(self, *, offline: bool = False) -> None:
        self._offline = offline
        self._session: aiohttp.ClientSession | None = None
        self._making = asyncio.Lock()
        self._proxies: dict[str, str | None] = {}

    async def send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> aiohttp.ClientResponse:
        """The answer's head; hand it to `leave` afterwards. Raises aiohttp's errors."""
        if self._offline and not is_loopback(url):
            raise Unavailable("services.model_router.offline is true: nothing outside is called.")
        session = self._session or await self._made()
        return await session.request(
            method,
            url,
            data=body,
            headers=headers,
            allow_redirects=False,
            proxy=await self._proxy(url),
        )

    async def close(self) -> None:
        """Close every connection."""
        if self._session:
            await self._session.close()

    async def _made(self) -> aiohttp.ClientSession:
        async with self._making:
            if self._session is None:
                await asyncio.to_thread(__import__, "aiohttp")
                import aiohttp

                self._session = aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_S),
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers={
                        "user-agent": "sonia",
                        "content-type": "application/json",
                        "accept-encoding": "identity",
                    },
                )
            return self._session

    async def _proxy(self, url: str) -> str | None:
        """The environment's proxy for this address, looked up once a host."""
        parts = urlsplit(url)
        host = parts.netloc
        if host not in self._proxies:
            self._proxies[host] = await asyncio.to_thread(_proxy_of, parts.scheme, host)
        return self._proxies[host]


async def leave(response: aiohttp.ClientResponse, *, whole: bool) -> None:
    """Keep the connection when the answer is `whole` and its end comes at once, or close it."""
    if whole and not response.content.at_eof():
        try:
            async with asyncio.timeout(DRAIN_S):
                while await response.content.readany():
                    pass
        except (TimeoutError, OSError, _client_error()):
            whole = False
    if whole and response.content.at_eof():
        response.release()
    else:
        response.close()


def _client_error() -> type[Exception]:
    import aiohttp

    return aiohttp.ClientError


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy_of(scheme: str, host: str) -> str | None:
    from urllib.request import getproxies, proxy_bypass

    if is_loopback(f"{scheme}://{host}") or proxy_bypass(host):
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
