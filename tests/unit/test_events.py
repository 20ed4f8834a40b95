"""Facts: everybody who asked is told, and one who fails troubles nobody."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from sonia.events import Bus
from sonia.log import open_logs
from sonia.types import Value


class Rang(Value):
    """The bell."""

    times: int


class Knocked(Value):
    """The door."""


async def test_publish_returns_what_the_listeners_answered() -> None:
    bus = Bus()

    async def count(event: Rang) -> int:
        return event.times

    async def double(event: Rang) -> int:
        return event.times * 2

    bus.subscribe(Rang, count)
    bus.subscribe(Rang, double)

    assert await bus.publish(Rang(times=3)) == [3, 6]


async def test_a_listener_is_told_only_of_what_it_asked_for() -> None:
    bus = Bus()
    heard: list[Value] = []

    async def hear(event: Value) -> None:
        heard.append(event)

    bus.subscribe(Rang, hear)
    await bus.publish(Knocked())
    await bus.publish(Rang(times=1))

    assert heard == [Rang(times=1)]


async def test_a_fact_nobody_asked_for_is_answered_by_nobody() -> None:
    assert await Bus().publish(Knocked()) == []


async def test_publish_waits_until_every_listener_is_done() -> None:
    bus = Bus()
    go = asyncio.Event()

    async def slow(_: Knocked) -> str:
        await go.wait()
        return "done"

    bus.subscribe(Knocked, slow)
    publishing = asyncio.create_task(bus.publish(Knocked()))
    await asyncio.sleep(0)
    assert not publishing.done()

    go.set()

    assert await publishing == ["done"]


async def test_listeners_are_told_at_once_not_one_after_the_other() -> None:
    bus = Bus()
    met = asyncio.Barrier(2)

    async def meet(_: Knocked) -> None:
        await met.wait()

    bus.subscribe(Knocked, meet)
    bus.subscribe(Knocked, meet)

    async with asyncio.timeout(60):
        await bus.publish(Knocked())


async def test_a_listener_that_fails_is_logged_and_the_others_are_heard(tmp_path: Path) -> None:
    bus = Bus()

    async def fail(_: Knocked) -> None:
        raise ValueError("the hinge broke")

    async def open_door(_: Knocked) -> str:
        return "come in"

    bus.subscribe(Knocked, fail)
    bus.subscribe(Knocked, open_door)

    with open_logs(tmp_path, level="INFO", style="json") as services:
        answers = await bus.publish(Knocked())
    line = json.loads((services / "sonia.log").read_text())

    assert answers == ["come in"]
    assert (line["event"], line["fact"]) == ("listener failed", "Knocked")
    assert "the hinge broke" in line["exception"]


async def test_a_listener_that_stopped_listening_is_not_told() -> None:
    bus = Bus()
    heard: list[str] = []

    async def first(_: Knocked) -> None:
        heard.append("first")

    async def second(_: Knocked) -> None:
        heard.append("second")

    stop = bus.subscribe(Knocked, first)
    bus.subscribe(Knocked, second)
    stop()
    await bus.publish(Knocked())

    assert heard == ["second"]


async def test_a_publisher_that_is_cancelled_cancels_the_listeners() -> None:
    bus = Bus()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait(_: Knocked) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    bus.subscribe(Knocked, wait)
    publishing = asyncio.create_task(bus.publish(Knocked()))
    await begun.wait()
    publishing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await publishing
    await asyncio.wait_for(ended.wait(), 60)
