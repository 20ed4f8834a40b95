"""The store of kept answers: what it promises as a Litestar store, and its bound in bytes."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable

import pytest
from litestar.stores.base import NamespacedStore, Store
from litestar.stores.memory import MemoryStore

from sonia.gateway.cache import BoundedStore

STORES: list[Callable[[], Store]] = [MemoryStore, lambda: BoundedStore(100_000)]


@pytest.fixture(params=STORES, ids=["memory", "bounded"])
def store(request: pytest.FixtureRequest) -> Store:
    made: Store = request.param()
    return made


async def test_what_is_set_is_there_until_it_is_deleted(store: Store) -> None:
    await store.set("a", b"1")
    await store.set("b", "two")
    await store.set("a", b"3")

    assert (await store.get("a"), await store.get("b")) == (b"3", b"two")
    await store.delete("a")
    await store.delete("a")
    assert await store.get("a") is None
    assert (await store.exists("a"), await store.exists("b")) == (False, True)
    await store.delete_all()
    assert await store.get("b") is None


async def test_what_has_expired_is_gone(store: Store) -> None:
    await store.set("a", b"1", expires_in=dt.timedelta(microseconds=1))
    await store.set("b", b"1", expires_in=100)
    await store.set("c", b"1")
    await asyncio.sleep(0.001)

    assert await store.get("a") is None
    assert await store.expires_in("a") is None
    assert 98 <= (await store.expires_in("b") or 0) <= 100
    assert await store.expires_in("c") == -1
    await store.get("b", renew_for=1000)
    assert (await store.expires_in("b") or 0) > 900


async def test_a_namespace_is_emptied_alone() -> None:
    store: NamespacedStore = BoundedStore(100_000)
    ann, bob = store.with_namespace("ann"), store.with_namespace("bob")
    await ann.set("a", b"1")
    await bob.set("a", b"2")

    await ann.delete_all()

    assert (await ann.get("a"), await bob.get("a")) == (None, b"2")


async def test_no_more_is_held_than_fits_and_the_longest_unused_goes_first() -> None:
    store = BoundedStore(10_000)
    for number in range(8):
        await store.set(f"k{number}", bytes(1000))
    await store.get("k0")

    await store.set("new", bytes(1000))

    assert store.held_bytes <= 10_000
    assert await store.get("k0") is not None
    assert await store.get("k1") is None
    await store.set("huge", bytes(20_000))
    assert await store.get("huge") is None
    assert await store.get("new") is not None
    await store.delete_all()
    assert store.held_bytes == 0
