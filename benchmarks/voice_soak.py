"""What voice sessions cost, idle, busy and for long: `python -m benchmarks.voice_soak`.

A real server with its weights. Printed: its memory and CPU at rest, with idle sockets (in KB
each), and while one and two people ask one question after the other in real time; then one of them
goes on for `--minutes`, and every minute memory and the median of voice to voice are printed, and
in the end by how much both rise in ten minutes (a straight line through all minutes but the first).
Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import psutil

from benchmarks.voice_to_voice import SETTLE_S, Client, questions, serving, session, until_ready
from sonia.running import read
from sonia.voice import Samples

Asked = Sequence[tuple[str, Samples]]
REST_S = 5.0
MB = 1_048_576


class Meter:
    """A process's memory and CPU, with what it has started."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)

    def memory(self) -> int:
        """Resident bytes."""
        return sum(one.memory_info().rss for one in self._all())

    def cpu_s(self) -> float:
        """Seconds of CPU so far."""
        return sum(sum(one.cpu_times()[:2]) for one in self._all())

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


async def metered(meter: Meter, name: str, seconds: float) -> None:
    """One line: what so much time costs."""
    cpu, began = meter.cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    share = (meter.cpu_s() - cpu) / (time.monotonic() - began)
    print(f"{name:<30} {meter.memory() / MB:>8.1f} MB {share:>7.1%} of one core", flush=True)


async def idle(ports: dict[str, int], meter: Meter, count: int) -> None:
    """So many sockets that say nothing."""
    await metered(meter, "at rest", REST_S)
    before = meter.memory()
    async with AsyncExitStack() as stack:
        for _ in range(count):
            await stack.enter_async_context(session(ports, Client))
        await metered(meter, f"{count} idle sockets", REST_S)
        print(f"{'':<30} {(meter.memory() - before) / count / 1024:>8.1f} KB each", flush=True)


async def asking(client: Client, asked: Asked, until: float) -> list[float]:
    """Ask one question after the other; milliseconds, voice to voice."""
    found: list[float] = []
    number = 0
    while time.monotonic() < until:
        turn = await client.ask(*asked[number % len(asked)])
        found.append(turn.voice_to_voice)
        number += 1
    return found


async def active(ports: dict[str, int], meter: Meter, asked: Asked, count: int) -> None:
    """So many people at once."""
    async with AsyncExitStack() as stack:
        entered = [await stack.enter_async_context(session(ports, Client)) for _ in range(count)]
        await asyncio.sleep(SETTLE_S)
        until = time.monotonic() + 20
        work = [asyncio.create_task(asking(one, asked[n:], until)) for n, one in enumerate(entered)]
        await metered(meter, f"{count} talking", 20)
        times = [ms for found in await asyncio.gather(*work) for ms in found]
        print(f"{'':<30} {statistics.median(times):>8.0f} ms voice to voice", flush=True)


async def soak(ports: dict[str, int], meter: Meter, asked: Asked, minutes: int) -> None:
    """One person who does not stop."""
    memories, medians = [], []
    async with session(ports, Client) as client:
        await asyncio.sleep(SETTLE_S)
        for minute in range(1, minutes + 1):
            found = await asking(client, asked, time.monotonic() + 60)
            memories.append(meter.memory() / MB)
            medians.append(statistics.median(found))
            print(
                f"minute {minute:>3}: {memories[-1]:>8.1f} MB, {medians[-1]:>5.0f} ms of "
                f"{len(found)} turns",
                flush=True,
            )
    if minutes > 2:
        at = np.arange(minutes - 1)
        memory, latency = (np.polyfit(at, row[1:], 1)[0] * 10 for row in (memories, medians))
        print(f"in ten minutes: {memory:+.1f} MB, {latency:+.0f} ms")


async def run(folder: Path, args: argparse.Namespace) -> None:
    """All of it."""
    asked = await questions(None)
    with serving(folder) as ports:
        running = read(folder / "data")
        assert running
        meter = Meter(running.pid)
        await until_ready(ports)
        await idle(ports, meter, args.sockets)
        for count in (1, 2):
            await active(ports, meter, asked, count)
        await soak(ports, meter, asked, args.minutes)


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=30, help="of talking (default: 30)")
    parser.add_argument("--sockets", type=int, default=50, help="that are idle (default: 50)")
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder), parser.parse_args()))


if __name__ == "__main__":
    main()
