"""R09: does the write-ahead log stay short at 500 writes a second, whoever reads?

    python -m benchmarks.memory_log                 twice half a minute
    python -m benchmarks.memory_log --seconds 60

First beside four readers that overlap without end, then beside one that looks at one old state
all the time; SQLite can't shorten its log while that one does. Prints how long the log was at
its longest, and how long at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec

from benchmarks.memory_concurrency import opened
from sonia.db import connect
from sonia.memory import Memory, NewMemory

READERS = 4
WRITERS = 8
RATE_HZ = 500


class Trial(msgspec.Struct, kw_only=True):
    """Bytes of the log: at its longest, and at the end."""

    writes: int = 0
    longest: int = 0
    left: int = 0


async def trial(memory: Memory, log: Path, *, writes: int, rate_hz: float | None = None) -> Trial:
    """Store so many, at this rate or as fast as it goes, beside readers that never pause."""
    result, started, done = Trial(), time.perf_counter(), asyncio.Event()

    async def read() -> None:
        while not done.is_set():
            await memory.by_type("fact", limit=20)

    async def write(numbers: Iterator[int]) -> None:
        for number in numbers:
            if rate_hz is not None:
                await asyncio.sleep(started + number / rate_hz - time.perf_counter())
            new = NewMemory(type="fact", content=f"Reading {number} of the gauge.")
            await memory.store(new)
            result.writes += 1
            result.longest = max(result.longest, _bytes(log))

    async with asyncio.TaskGroup() as group:
        for _ in range(READERS):
            group.create_task(read())
        numbers = iter(range(writes))
        await asyncio.gather(*(write(numbers) for _ in range(WRITERS)))
        done.set()
    result.left = _bytes(log)
    return result


def _bytes(log: Path) -> int:
    return log.stat().st_size


def _print(about: str, result: Trial, took_s: float) -> None:
    print(
        f"{about:<34} {result.writes / took_s:>6.0f} writes/s  "
        f"longest {result.longest / 1e6:>6.1f} MB  at the end {result.left / 1e6:>6.1f} MB"
    )


async def main(seconds: float) -> None:
    """Print both."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "sonia.db-wal"
        async with opened(Path(folder)) as memory:
            for about in ("beside readers that overlap", "beside one at an old state"):
                with closing(connect(Path(folder) / "sonia.db", read_only=True)) as old:
                    if about.endswith("old state"):
                        old.execute("BEGIN")
                        old.execute("SELECT count(*) FROM memory_entries").fetchall()
                    started = time.perf_counter()
                    result = await trial(
                        memory, log, writes=int(seconds * RATE_HZ), rate_hz=RATE_HZ
                    )
                    took_s = time.perf_counter() - started
                _print(about, result, took_s)
            for _ in range(200):  # the log is cut by the next writes, at most once a second
                await memory.store(NewMemory(type="note", content="The reader has left."))
                await asyncio.sleep(0.01)
            print(f"two seconds after that one has ended: {_bytes(log) / 1e6:.1f} MB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30.0, help="of each (30)")
    asyncio.run(main(parser.parse_args().seconds))
