"""Where kept answers lie: in this process, or in a Valkey server that replicas share.

A cache may never be why a question goes unanswered. A server that is slow or gone is passed over
for a while: nothing is found in it and nothing is kept. What should have been erased meanwhile is
erased first when it is back, and until then nothing of it is read.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from litestar.stores.base import NamespacedStore

from sonia.config import Caching
from sonia.errors import ConfigurationError
from sonia.gateway.cache import BoundedStore
from sonia.log import get_logger

ANSWER_S = 0.5  # longer than this a cache is no gain
AWAY_S = 5.0
NAMESPACE = "sonia-answers"
Lifetime = int | dt.timedelta | None
T = TypeVar("T")


@asynccontextmanager
async def open_store(config: Caching) -> AsyncIterator[NamespacedStore]:
    """Enter at once, whether the server is there or not. Leaving closes its connections.

    Raises `ConfigurationError` when Valkey's client is not installed.
    """
    if config.store == "memory":
        yield BoundedStore(config.max_size_mb * 2**20)
        return
    store, client, failures = await asyncio.to_thread(_valkey, config)
    try:
        yield SharedStore(store, failures)
    finally:
        await client.aclose(close_connection_pool=True)


def _valkey(config: Caching) -> tuple[NamespacedStore, Any, tuple[type[Exception], ...]]:
    try:
        from litestar.stores.valkey import ValkeyStore
        from valkey.asyncio import Valkey
        from valkey.exceptions import ValkeyError
    except ImportError as error:
        raise ConfigurationError(
            "services.api_gateway.caching.store: Valkey's client is not installed. "
            "Install it with `pip install 'sonia[valkey]'`, or set it to memory."
        ) from error
    client: Any = Valkey.from_url(
        config.store,
        password=config.store_password.reveal() or None,
        socket_timeout=ANSWER_S,
        socket_connect_timeout=ANSWER_S,
    )
    failures = (ValkeyError, OSError, TimeoutError)
    return ValkeyStore(client, namespace=NAMESPACE), client, failures


class _Link(msgspec.Struct):
    """What all namespaces know of the server: until when it is left alone, what it still owes."""

    failures: tuple[type[Exception], ...]
    away_until_s: float = 0.0
    to_erase: set[str] = msgspec.field(default_factory=set)


class SharedStore(NamespacedStore):
    """A store elsewhere that never fails: `failures` are what it raises when it is away.

    Replicas share it, and its bound in bytes is the server's own (`maxmemory`).
    """

    def __init__(
        self,
        store: NamespacedStore,
        failures: tuple[type[Exception], ...],
        *,
        _name: str = "",
        _link: _Link | None = None,
    ) -> None:
        self._store = store
        self._link = _link or _Link(failures)
        self._name = _name

    def with_namespace(self, namespace: str) -> SharedStore:
        """The same server, under keys of its own."""
        within = self._store.with_namespace(namespace)
        return SharedStore(within, (), _name=f"{self._name}/{namespace}", _link=self._link)

    async def set(self, key: str, value: str | bytes, expires_in: Lifetime = None) -> None:
        lifetime = _whole_seconds(expires_in)
        await self._asked(lambda: self._store.set(key, value, lifetime), None)

    async def get(self, key: str, renew_for: Lifetime = None) -> bytes | None:
        return await self._asked(lambda: self._store.get(key, renew_for), None)

    async def delete(self, key: str) -> None:
        await self._asked(lambda: self._store.delete(key), None)

    async def delete_all(self) -> None:
        """Of this namespace; as soon as the server is back, if it is away."""
        self._link.to_erase.add(self._name)
        await self._asked(self._settled, None)

    async def exists(self, key: str) -> bool:
        return await self._asked(lambda: self._store.exists(key), False)

    async def expires_in(self, key: str) -> int | None:
        """Seconds left; -1 for an entry that does not expire, None for none."""
        return await self._asked(lambda: self._store.expires_in(key), None)

    async def _asked(self, ask: Callable[[], Awaitable[T]], otherwise: T) -> T:
        link = self._link
        if time.monotonic() < link.away_until_s:
            return otherwise
        try:
            if self._name in link.to_erase:
                await self._settled()
            return await ask()
        except link.failures as error:
            link.away_until_s = time.monotonic() + AWAY_S
            get_logger("api-gateway").warning("cache is away", reason=type(error).__name__)
            return otherwise

    async def _settled(self) -> None:
        await self._store.delete_all()
        self._link.to_erase.discard(self._name)


def _whole_seconds(lifetime: Lifetime) -> int | None:
    """Rounded up, since Valkey refuses a lifetime of none."""
    seconds = lifetime.total_seconds() if isinstance(lifetime, dt.timedelta) else lifetime
    return None if seconds is None else math.ceil(seconds)
