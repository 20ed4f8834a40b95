"""The stores of kept answers: what they promise as Litestar stores, and what becomes of a cache
whose server goes away."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator

import pytest
from litestar.stores.base import NamespacedStore, Store
from litestar.stores.memory import MemoryStore

from sonia.config import Caching
from sonia.gateway import shared_store
from sonia.gateway.cache import AnswerCache, BoundedStore
from sonia.gateway.shared_store import open_store
from sonia.router import ChatEvent, Finished, TextDelta
from sonia.types import Usage
from tests.valkey_given import valkey_server

END = Finished(
    model="m/m", provider="m", reason="stop", usage=Usage(), first_token_ms=1.0, cost_usd=None
)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine may take its time to answer; only a server that is gone counts as away."""
    monkeypatch.setattr(shared_store, "ANSWER_S", 30.0)


@pytest.fixture(params=["litestar", "memory", "valkey"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    match request.param:
        case "litestar":
            yield MemoryStore()
        case "memory":
            async with open_store(Caching()) as made:
                yield made
        case _:
            async with valkey_server() as server, open_store(Caching(store=server.url)) as made:
                yield made


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


@pytest.mark.parametrize("store", [MemoryStore(), BoundedStore(100_000)])
async def test_what_has_expired_is_gone(store: Store) -> None:
    await store.set("a", b"1", expires_in=dt.timedelta(microseconds=1))
    await asyncio.sleep(0.001)

    assert await store.get("a") is None
    assert await store.expires_in("a") is None


async def test_a_lifetime_is_told_and_renewed(store: Store) -> None:
    await store.set("a", b"1", expires_in=dt.timedelta(milliseconds=99_500))
    await store.set("b", b"1")

    assert 90 <= (await store.expires_in("a") or 0) <= 100
    assert await store.expires_in("b") == -1
    await store.get("a", renew_for=1000)
    assert (await store.expires_in("a") or 0) > 900
    assert await store.expires_in("none") is None


async def test_a_lifetime_below_a_second_is_one(store: Store) -> None:
    await store.set("a", b"1", expires_in=dt.timedelta(milliseconds=900))

    assert await store.get("a") == b"1"


@pytest.mark.parametrize("kind", ["memory", "valkey"])
async def test_a_namespace_is_emptied_alone(kind: str) -> None:
    async with valkey_server() as server:
        url = server.url if kind == "valkey" else "memory"
        async with open_store(Caching(store=url)) as store:
            await _emptied_alone(store)


async def _emptied_alone(store: NamespacedStore) -> None:
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


async def test_replicas_share_what_one_of_them_kept_and_no_user_sees_anothers() -> None:
    async with valkey_server() as server:
        config = Caching(store=server.url)
        async with open_store(config) as one, open_store(config) as other:
            await _keep(_cache(one), "ann")

            found = await _cache(other).find("ann", "k")
            not_hers = await _cache(other).find("bob", "k")

    assert found == (TextDelta(text="kept"), END)
    assert not_hers is None


async def test_a_server_that_is_away_is_passed_over_and_used_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_store, "AWAY_S", 0.0)
    async with valkey_server() as server, open_store(Caching(store=server.url)) as store:
        cache = _cache(store)
        await server.stop()

        told = await _keep(cache, "ann")
        while_away = await cache.find("ann", "k")
        await server.start()
        await _keep(cache, "ann")
        back = await cache.find("ann", "k")

    assert told == [TextDelta(text="kept"), END]
    assert while_away is None
    assert back == (TextDelta(text="kept"), END)


async def test_a_server_that_failed_is_not_asked_again_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_store, "AWAY_S", 3600.0)
    async with valkey_server() as server, open_store(Caching(store=server.url)) as store:
        cache = _cache(store)
        await _keep(cache, "ann")
        await server.stop()
        await cache.find("ann", "k")
        await server.start()

        await _keep(cache, "ann")

        async with open_store(Caching(store=server.url)) as fresh:
            assert await _cache(fresh).find("ann", "k") is None


async def test_what_was_forgotten_while_the_server_was_away_is_erased_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_store, "AWAY_S", 0.0)
    async with valkey_server() as server:
        config = Caching(store=server.url)
        async with open_store(config) as store, open_store(config) as replica:
            cache = _cache(store)
            await server.stop()
            await cache.forget("ann")
            await server.start()
            await _keep(_cache(replica), "ann")

            found = [await cache.find("ann", "k"), await _cache(replica).find("ann", "k")]

    assert found == [None, None]


async def test_an_entry_that_nobody_can_read_is_none() -> None:
    store = BoundedStore(100_000)
    cache = _cache(store)
    await _keep(cache, "ann")
    (key,) = store._room.entries
    store._room.put(key, b"of another version", None)

    assert await cache.find("ann", "k") is None


def _cache(store: NamespacedStore) -> AnswerCache:
    return AnswerCache(store, ttl_s=60, max_bytes=2**20)


async def _keep(cache: AnswerCache, user: str) -> list[ChatEvent]:
    return [event async for event in cache.keeping(user, "k", _answer())]


async def _answer() -> AsyncGenerator[ChatEvent, None]:
    yield TextDelta(text="kept")
    yield END
