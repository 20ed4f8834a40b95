"""Answers kept for the same question again: exact, per user, bounded in bytes.

What is kept is the router's events, so an answer kept for one protocol serves every other, whole
or streamed. Any of Litestar's stores will do; `BoundedStore` is the one in this process.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from functools import lru_cache

import msgspec
from litestar.stores.base import NamespacedStore

from sonia.router import ChatEvent, ChatRequest, Finished

ENTRY_OVERHEAD_BYTES = 200  # of a key and its bookkeeping, beside the value
LARGEST_SHARE = 16  # no single answer takes more than this fraction of the room

_decoder = msgspec.msgpack.Decoder(tuple[ChatEvent, ...])
_encode = msgspec.msgpack.encode
_Entry = tuple[bytes, float | None]


class BoundedStore(NamespacedStore):
    """A Litestar store in memory that never holds more than `max_bytes`.

    The entry that was unused longest makes way. Namespaces share the room.
    """

    def __init__(self, max_bytes: int, *, _prefix: str = "", _root: _Room | None = None) -> None:
        self._room = _root or _Room(max_bytes)
        self._prefix = _prefix

    def with_namespace(self, namespace: str) -> BoundedStore:
        """The same room, under keys of its own."""
        return BoundedStore(0, _prefix=f"{self._prefix}{namespace}/", _root=self._room)

    async def set(
        self, key: str, value: str | bytes, expires_in: int | dt.timedelta | None = None
    ) -> None:
        data = value.encode() if isinstance(value, str) else value
        self._room.put(self._prefix + key, data, _until(expires_in))

    async def get(self, key: str, renew_for: int | dt.timedelta | None = None) -> bytes | None:
        return self._room.take(self._prefix + key, _until(renew_for))

    async def delete(self, key: str) -> None:
        self._room.drop(self._prefix + key)

    async def delete_all(self) -> None:
        """Of this namespace."""
        for key in [key for key in self._room.entries if key.startswith(self._prefix)]:
            self._room.drop(key)

    async def exists(self, key: str) -> bool:
        return self._room.find(self._prefix + key) is not None

    async def expires_in(self, key: str) -> int | None:
        """Seconds left; -1 for an entry that does not expire, None for none."""
        entry = self._room.find(self._prefix + key)
        if entry is None:
            return None
        return -1 if entry[1] is None else max(0, round(entry[1] - time.monotonic()))

    @property
    def held_bytes(self) -> int:
        """By all namespaces together."""
        return self._room.held_bytes


class _Room:
    """The entries of all namespaces, least recently used first."""

    def __init__(self, max_bytes: int) -> None:
        self.entries: OrderedDict[str, _Entry] = OrderedDict()
        self.held_bytes = 0
        self._max_bytes = max_bytes

    def put(self, key: str, value: bytes, until_s: float | None) -> None:
        self.drop(key)
        if _size(key, value) > self._max_bytes:
            return
        self.entries[key] = (value, until_s)
        self.held_bytes += _size(key, value)
        while self.held_bytes > self._max_bytes:
            self.drop(next(iter(self.entries)))

    def find(self, key: str) -> _Entry | None:
        entry = self.entries.get(key)
        if entry and entry[1] is not None and entry[1] <= time.monotonic():
            self.drop(key)
            return None
        return entry

    def take(self, key: str, until_s: float | None) -> bytes | None:
        if (entry := self.find(key)) is None:
            return None
        value, old = entry
        self.entries[key] = (value, until_s if until_s and old is not None else old)
        self.entries.move_to_end(key)
        return value

    def drop(self, key: str) -> None:
        if entry := self.entries.pop(key, None):
            self.held_bytes -= _size(key, entry[0])


class AnswerCache:
    """Whole answers of models, by everything that made them what they are."""

    def __init__(self, store: NamespacedStore, *, ttl_s: float, max_bytes: int) -> None:
        self._store = store
        self._ttl = dt.timedelta(seconds=ttl_s)
        self._largest = max_bytes // LARGEST_SHARE

    @staticmethod
    def keeps(request: ChatRequest) -> bool:
        """Whether asking again would give the same: temperature 0, or a seed."""
        return request.temperature == 0 or request.seed is not None

    @staticmethod
    def key(request: ChatRequest) -> str:
        """Of the model, the messages, the tools and every parameter."""
        return hashlib.sha256(msgspec.msgpack.encode(request)).hexdigest()

    async def find(self, user_id: str, key: str) -> tuple[ChatEvent, ...] | None:
        """The events of the answer, if it is kept."""
        data = await self._of(user_id).get(key)
        try:
            return None if data is None else _decoder.decode(data)
        except msgspec.DecodeError:  # another version's, in a store that outlives us
            return None

    async def keeping(
        self, user_id: str, key: str, events: AsyncIterator[ChatEvent]
    ) -> AsyncGenerator[ChatEvent, None]:
        """Hand the events on; keep them once they are all there. A cut answer is not kept."""
        kept: list[ChatEvent] = []
        async for event in events:
            kept.append(event)
            if isinstance(event, Finished):
                data = _encode(kept)
                if len(data) <= self._largest:
                    await self._of(user_id).set(key, data, self._ttl)
            yield event

    async def forget(self, user_id: str) -> None:
        """Erase every answer that this user got."""
        await self._of(user_id).delete_all()

    def _of(self, user_id: str) -> NamespacedStore:
        return self._store.with_namespace(_namespace(user_id))


@lru_cache(maxsize=1024)
def _namespace(user_id: str) -> str:
    return hashlib.sha256(user_id.encode()).hexdigest()[:32]


def _size(key: str, value: bytes) -> int:
    return len(key) + len(value) + ENTRY_OVERHEAD_BYTES


def _until(lifetime: int | dt.timedelta | None) -> float | None:
    if lifetime is None:
        return None
    seconds = lifetime.total_seconds() if isinstance(lifetime, dt.timedelta) else lifetime
    return time.monotonic() + seconds
