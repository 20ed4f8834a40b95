"""Memory's speed: writing, the vectors alone, whole searches, and searches over HTTP; beside peers.

    python -m benchmarks.memory_speed [--memories 100000] [--questions 200] [--api] \\
        [--peers chroma,lancedb,lancedb-hnsw,mem0] [--peer-python PATH]

Writes memories with vectors that are known already, 5000 at a time from two tasks, waits until
both indexes hold them, and asks real questions. "hybrid" is a search without the time that its
question's embedding takes; "over HTTP" (`--api`) is everything, by `sonia serve` with the real
model over the same data. Recall is of the ten nearest, against every vector compared exactly. The
plain scan is sqlite-vec's own, of the same table. Peers are measured on the same vectors, in the
environment that `--peer-python` names (see benchmarks/requirements-peers.txt); one that isn't
installed is skipped. 100,000 memories take about two minutes, once the texts have been embedded
(some minutes, the first time only); a million about fifteen.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import apsw
import msgspec
import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.memory_data import MODEL, Vectors, made, questions
from benchmarks.startup import NAMES, free_ports, until_healthy
from sonia.app import MIGRATIONS
from sonia.config import MemoryEngine
from sonia.config import Search as Settings
from sonia.db import open_database
from sonia.events import Bus
from sonia.memory import NewMemory, Query, SqliteMemory, open_memory, vectors
from sonia.memory.mirroring import Found as Looked

AT_ONCE = 5_000
SESSIONS = 500
WRITERS = 2
RESTING_PERCENT = 10  # of a core


class Known:
    """An embedder of texts whose vectors are known."""

    space = MODEL
    dimensions = 384

    def __init__(self, said: Sequence[str], of: Vectors) -> None:
        self._of = dict(zip(said, of, strict=True))

    async def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.stack([self._of[text] for text in texts])


class Row(msgspec.Struct):
    """One line of the table."""

    what: str
    ms: list[float] = []
    recall: float | None = None
    rate: float | None = None
    note: str = ""

    def line(self) -> str:
        cells = [f"{self.what:<44}"]
        for part in (50, 99):
            cells.append(f"{np.percentile(self.ms, part):>9.2f}" if self.ms else " " * 9)
        cells.append(" " * 9 if self.recall is None else f"{self.recall:>9.3f}")
        cells.append(" " * 10 if self.rate is None else f"{self.rate:>10,.0f}")
        return "".join(cells) + f"  {self.note}"


def rss_mb(pid: int | None = None) -> float:
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def recall(found: Sequence[Sequence[int]], exact: Sequence[set[int]]) -> float:
    return sum(len(set(a) & b) for a, b in zip(found, exact, strict=True)) / (10 * len(exact))


def timed(work: Callable[[], list[int]]) -> tuple[float, list[int]]:
    began = time.perf_counter()
    answer = work()
    return (time.perf_counter() - began) * 1000, answer


async def fill(memory: SqliteMemory, of: Vectors, contents: Sequence[str]) -> list[Row]:
    starts = iter(range(0, len(of), AT_ONCE))

    async def write() -> None:
        for at in starts:
            new = [
                NewMemory(
                    type="fact",
                    content=content,
                    session_id=f"s{index % SESSIONS}",
                    metadata={"index": index},
                )
                for index, content in enumerate(contents[at : at + AT_ONCE], at)
            ]
            await memory.store_many(new, of[at : at + AT_ONCE])

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(WRITERS)))
    durable_s = time.perf_counter() - began
    await memory.settled()
    settled_s = time.perf_counter() - began
    return [
        Row("writing: durable, found by vector", rate=len(of) / durable_s),
        Row("writing: in the text index, too", rate=len(of) / settled_s),
    ]


async def indexes(memory: SqliteMemory) -> dict[int, int]:
    """Which vector each memory's number has."""
    return await memory._parts.db.read(
        lambda c: {  # type: ignore[misc]
            number: index
            for number, index in c.execute(
                "SELECT number, metadata ->> '$.index' FROM memory_entries"
            )
        }
    )


async def by_vector(
    memory: SqliteMemory, asked: Vectors, exact: Sequence[set[int]], examine: int
) -> Row:
    index = await indexes(memory)
    near = memory._parts.mirror.near
    memory._parts.mirror._examine = examine
    found, took = [], []
    for vector in asked:
        query = Query(query="x", user_id="owner")
        look = partial(near, vector, query, 10, space=MODEL)

        def ask(c: apsw.Connection, look: Callable[[], Looked] = look) -> object:
            return timed(lambda: [index[number] for number, _ in look()(c)])

        ms, numbers = await memory._parts.db.read(ask)  # type: ignore[misc]
        took.append(ms)
        found.append(numbers)
    return Row(f"vectors, hnsw_ef {examine}", took, recall(found, exact))


async def by_scan(memory: SqliteMemory, asked: Vectors, exact: Sequence[set[int]]) -> Row:
    index = await indexes(memory)
    found, took = [], []
    for vector in asked:
        began = time.perf_counter()
        query = Query(query="x")
        rows = await memory._parts.db.read(
            partial(vectors.nearest, vector=vector, query=query, limit=10)
        )
        took.append((time.perf_counter() - began) * 1000)
        found.append([index[number] for number, _ in rows])
    return Row("sqlite-vec's plain scan", took, recall(found, exact))


async def whole(memory: SqliteMemory, said: Sequence[str], **narrowed: str) -> list[float]:
    took = []
    for text in said:
        began = time.perf_counter()
        await memory.search(Query(query=text, **narrowed))  # type: ignore[arg-type]
        took.append((time.perf_counter() - began) * 1000)
    return took


async def measured(folder: Path, count: int, asked_count: int) -> tuple[list[Row], list[set[int]]]:
    of, contents = made(count)
    asked, said = questions(asked_count)
    exact = [set(np.argsort(-(of @ vector))[:10].tolist()) for vector in asked]
    config = MemoryEngine(search=Settings())
    async with (
        open_database(folder / "sonia.db", MIGRATIONS) as db,
        open_memory(config, db, Known(said, asked), Bus(), folder / "text-index") as memory,
    ):
        rows = await fill(memory, of, contents)
        for examine in (50, 100, 200, 400):
            rows.append(await by_vector(memory, asked, exact, examine))
        memory._parts.mirror._examine = config.search.hnsw_ef
        rows.append(await by_scan(memory, asked[:20], exact[:20]))
        for mode in ("text", "vector", "hybrid"):
            rows.append(Row(f"search, {mode}", await whole(memory, said, mode=mode)))
        narrowed = await whole(memory, said, session_id="s7", user_id="owner")
        rows.append(Row("search, hybrid, of one session", narrowed))
        rows[-1].note = f"{rss_mb():,.0f} MB in this process, the vectors it made included"
    began = time.perf_counter()
    async with (
        open_database(folder / "sonia.db", MIGRATIONS) as db,
        open_memory(config, db, Known(said, asked), Bus(), folder / "text-index") as memory,
    ):
        await memory.settled()
        rows.append(
            Row("starting again", note=f"{time.perf_counter() - began:.2f} s to full speed")
        )
    return rows, exact


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[tuple[int, int]]:
    """The port of the memory engine, and the process."""
    ports = free_ports(6)
    environment = os.environ | {
        "SONIA__PATHS__DATA": str(folder),
        "SONIA__PATHS__LOGS": str(folder.parent / "logs"),
        "SONIA__SERVICES__OPENCLAW__WORKSPACE": str(folder.parent / "workspace"),
    }
    for name, port in zip(NAMES, ports, strict=True):
        environment[f"SONIA__SERVICES__{name}__PORT"] = str(port)
    child = subprocess.Popen(
        [sys.executable, "-m", "sonia", "serve"], env=environment, stdout=subprocess.DEVNULL
    )
    try:
        until_healthy(ports, "/healthz", time.perf_counter())
        yield ports[2], child.pid
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(timeout=60)


def get(connection: http.client.HTTPConnection, path: str) -> dict[str, object]:
    connection.request("GET", path)
    answer: dict[str, object] = json.loads(connection.getresponse().read())
    return answer


def over_http(folder: Path, said: Sequence[str]) -> Row:
    """When what a start has to do is done: until the local model has read the beginning of its
    prompt, it takes every core."""
    with serving(folder) as (port, pid):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while '"vector_index": "ready"' not in json.dumps(get(connection, "/status")):
            time.sleep(0.2)
        while psutil.Process(pid).cpu_percent(interval=1.0) > RESTING_PERCENT:
            get(connection, "/status")  # or it would be closed
        took, modes = [], []
        for text in [*said[:20], *said]:
            body = json.dumps({"query": text[:2000], "user_id": "owner"})
            began = time.perf_counter()
            connection.request("POST", "/search", body, {"Content-Type": "application/json"})
            answer = json.loads(connection.getresponse().read())
            took.append((time.perf_counter() - began) * 1000)
            modes.append(answer["data"]["mode"])
        row = Row("search, hybrid, over HTTP with embedding", took[20:])
        row.note = f"{rss_mb(pid):,.0f} MB the whole process; {modes[20:].count('hybrid')} hybrid"
        return row


def peer(
    python: str, name: str, folder: Path, files: tuple[str, str], exact: Sequence[set[int]]
) -> Row:
    script = str(Path(__file__).parent / "memory_speed_peers.py")
    done = subprocess.run(
        [python, script, name, *files, str(folder / name)], capture_output=True, text=True
    )
    if done.returncode:
        return Row(name, note=f"skipped: {done.stderr.strip().splitlines()[-1][:80]}")
    told = json.loads(done.stdout.splitlines()[-1])
    return Row(name, told["ms"], recall(told["found"], exact), told["rate"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--memories", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--api", action="store_true")
    parser.add_argument("--peers", default="")
    parser.add_argument("--peer-python", default=sys.executable)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        folder.mkdir()
        rows, exact = asyncio.run(measured(folder, given.memories, given.questions))
        asked, said = questions(given.questions)
        if given.api:
            rows.append(over_http(folder, said))
        if names := [name for name in given.peers.split(",") if name]:
            files = str(folder / "vectors.npy"), str(folder / "questions.npy")
            np.save(files[0], made(given.memories)[0])
            np.save(files[1], asked)
            rows += [peer(given.peer_python, name, folder, files, exact) for name in names]
    print(f"{'':<44}{'p50 ms':>9}{'p99 ms':>9}{'recall':>9}{'a second':>10}")
    for row in rows:
        print(row.line())
    print(f"{given.memories:,} memories of 384 dimensions; {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
