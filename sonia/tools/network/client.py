"""Pages fetched under guard: every hop is checked by name and where it is dialled."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from contextlib import aclosing

import httpcore
import httpx

from sonia.errors import UpstreamError
from sonia.tools.addresses import Address, AddressRefused, parse
from sonia.tools.network.dialling import GuardedBackend, Resolve, look_up
from sonia.tools.network.inflating import ENCODING, Body
from sonia.tools.network.reach import EgressDenied, Ip, Reach
from sonia.tools.network.receipt import Receipt
from sonia.types import Value
from sonia.version import VERSION

MAX_HOPS = 5
CONNECT_S = 10.0
MOVED = (301, 302, 303, 307, 308)


class Fetched(Value):
    """An answer. `url` is where it came from in the end; `truncated` says it is cut at a limit."""

    url: str
    status: int
    headers: dict[str, str]
    content: bytes
    truncated: bool


class FetchFailed(UpstreamError):
    """Nobody answered, or not in HTTP; `message` says which."""


class FetchTimeout(FetchFailed):
    """The whole took too long."""

    code = "upstream_timeout"
    status = 504


class GuardedClient:
    """GET within `reach`. No cookies, no proxies, nothing of the environment.

    `resolve` and `dial` are how names are looked up and connections made; tests pass their own.
    """

    def __init__(
        self,
        reach: Reach,
        *,
        resolve: Resolve = look_up,
        dial: httpcore.AsyncNetworkBackend | None = None,
    ) -> None:
        self.reach = reach
        self._resolve = resolve
        self._dial = dial or httpcore.AnyIOBackend()
        self._ssl: ssl.SSLContext | None = None

    async def get(
        self,
        address: Address,
        receipt: Receipt,
        *,
        limit_s: float,
        max_bytes: int,
        accept: str = "*/*",
        headers: Mapping[str, str] | None = None,
        own: Address | None = None,
    ) -> Fetched:
        """Ask, following at most `MAX_HOPS` redirects, for at most `limit_s` in all.

        `headers` go to the first origin only. `own` is an address of the owner's configuration:
        its origin may be on this machine, unless egress is offline. Raises `EgressDenied`,
        `AddressRefused`, `FetchFailed`, `FetchTimeout`.
        """
        sent = dict(headers or {})
        try:
            async with asyncio.timeout(limit_s):
                for _ in range(MAX_HOPS + 1):
                    answer = await self._ask(address, receipt, max_bytes, accept, sent, own)
                    following = _following(address, answer)
                    if following is None:
                        return answer
                    if following.origin != address.origin:
                        sent = {}
                    address = following
        except TimeoutError as error:
            raise FetchTimeout(f"{address.host} took longer than {limit_s:g} s.") from error
        raise FetchFailed(f"{address.host} redirects more than {MAX_HOPS} times.")

    async def _ask(
        self,
        address: Address,
        receipt: Receipt,
        max_bytes: int,
        accept: str,
        headers: Mapping[str, str],
        own: Address | None,
    ) -> Fetched:
        ours = own is not None and own.origin == address.origin and self.reach.mode != "offline"
        if not ours:
            self.reach.check(address)
        line = receipt.begin("GET", str(address))
        backend = GuardedBackend(
            _any if ours else self.reach.admits, line, self._resolve, self._dial
        )
        try:
            return await self._exchange(address, backend, max_bytes, accept, headers)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            why = str(error) or type(error).__name__
            raise FetchFailed(f"{address.host} did not answer: {why[:200]}.") from error
        except (ssl.SSLError, OSError) as error:
            raise FetchFailed(f"{address.host} did not answer: {str(error)[:200]}.") from error

    async def _exchange(
        self,
        address: Address,
        backend: GuardedBackend,
        max_bytes: int,
        accept: str,
        headers: Mapping[str, str],
    ) -> Fetched:
        host = str(address).split("/", 3)[2]
        sent = {
            "Host": host,
            "User-Agent": f"Sonia/{VERSION}",
            "Accept": accept,
            "Accept-Encoding": ENCODING,
            **headers,
        }
        context = await self._context() if address.scheme == "https" else None
        url = httpcore.URL(
            scheme=address.scheme.encode(),
            host=address.host.encode(),
            port=address.port,
            target=address.target.encode(),
        )
        timeouts = {"connect": CONNECT_S}
        async with (
            httpcore.AsyncConnectionPool(
                ssl_context=context, max_connections=1, network_backend=backend
            ) as pool,
            pool.stream(
                "GET", url, headers=list(sent.items()), extensions={"timeout": timeouts}
            ) as answer,
        ):
            told = {
                name.decode("latin-1").lower(): value.decode("latin-1")
                for name, value in answer.headers
            }
            body = Body(told.get("content-encoding", ""), max_bytes)
            async with aclosing(answer.aiter_stream()) as pieces:  # type: ignore[type-var]
                async for piece in pieces:
                    if not body.feed(piece):
                        break
            return Fetched(
                url=str(address),
                status=answer.status,
                headers=told,
                content=bytes(body.content),
                truncated=body.truncated,
            )

    async def _context(self) -> ssl.SSLContext:
        if self._ssl is None:
            self._ssl = await asyncio.to_thread(httpx.create_ssl_context, trust_env=False)
        return self._ssl


def _any(ip: Ip) -> bool:
    return not ip.is_unspecified and not ip.is_multicast


def _following(address: Address, answer: Fetched) -> Address | None:
    """Where an answer sends us on to, if it does. Raises `EgressDenied` for a worse place."""
    location = answer.headers.get("location")
    if answer.status not in MOVED or not location:
        return None
    try:
        following = parse(location, base=address)
    except AddressRefused as error:
        raise EgressDenied(f"{address.host} redirects to an address that is refused.") from error
    if address.scheme == "https" and following.scheme == "http":
        raise EgressDenied(f"{address.host} redirects from https to http at {following.host}.")
    return following
