"""Where connections are made: a name is looked up once, every answer is checked, one is dialled.

What was checked is what is dialled, so a name that changes its answer in between (DNS rebinding)
leads nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import httpcore

from sonia.tools.network.reach import EgressDenied, Ip
from sonia.tools.network.receipt import Line

Resolve = Callable[[str, int], Awaitable[list[str]]]
Admits = Callable[[Ip], bool]


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of a name, as the system gives them. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(item[4][0]) for item in found))


class GuardedBackend(httpcore.AsyncNetworkBackend):
    """Dials for one request, and counts on its `line`."""

    def __init__(
        self, admits: Admits, line: Line, resolve: Resolve, inner: httpcore.AsyncNetworkBackend
    ) -> None:
        self._admits = admits
        self._line = line
        self._resolve = resolve
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Raises `EgressDenied` when any answer is not admitted: an honest name has none such."""
        try:
            found = [ipaddress.ip_address(text) for text in await self._resolve(host, port)]
        except (OSError, UnicodeError, ValueError) as error:
            raise httpcore.ConnectError(f"there is no host {host}") from error
        if not found:
            raise httpcore.ConnectError(f"there is no host {host}")
        for ip in found:
            if not self._admits(ip):
                raise EgressDenied(
                    f"{host} is at {ip}, which may not be asked: see services.openclaw.egress."
                )
        chosen = str(found[0])
        self._line.address = chosen
        stream = await self._inner.connect_tcp(chosen, port, timeout, local_address, socket_options)
        return _Counted(stream, self._line)

    async def connect_unix_socket(
        self,
        path: str,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Never."""
        raise EgressDenied(f"{path} is a socket of this machine.")

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)


class _Counted(httpcore.AsyncNetworkStream):
    def __init__(self, inner: httpcore.AsyncNetworkStream, line: Line) -> None:
        self._inner = inner
        self._line = line

    async def read(
        self,
        max_bytes: int,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
    ) -> bytes:
        content = await self._inner.read(max_bytes, timeout)
        self._line.received_bytes += len(content)
        return content

    async def write(
        self,
        buffer: bytes,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
    ) -> None:
        self._line.sent_bytes += len(buffer)
        await self._inner.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._inner.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  httpcore's signature
    ) -> httpcore.AsyncNetworkStream:
        inner = await self._inner.start_tls(ssl_context, server_hostname, timeout)
        return _Counted(inner, self._line)

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)
