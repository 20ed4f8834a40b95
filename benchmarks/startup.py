"""Cold start and idle memory, beside six separate servers of empty apps.

    python -m benchmarks.startup [--runs 5]

Prints, for each run in turn: seconds from starting the process to six answers of 200, and the
resident memory then. Models are on the disk already; Sonia is measured with the models warming
behind (the default) and with `warm = false` (loaded at first use). The peer is six processes of
uvicorn, each with an ASGI app of one line: what six services cost before they do anything.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil

TIMEOUT_S = 60.0
NAMES = ("API_GATEWAY", "MODEL_ROUTER", "MEMORY_ENGINE", "PIPECAT", "OPENCLAW", "EVA_OS")
EMPTY_APP = """
async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
"""


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for item in sockets:
            item.bind(("127.0.0.1", 0))
        return [int(item.getsockname()[1]) for item in sockets]


def answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def until_healthy(ports: list[int], path: str, began: float) -> float:
    waiting = list(ports)
    while waiting and time.perf_counter() - began < TIMEOUT_S:
        waiting = [port for port in waiting if not answers(port, path)]
        if waiting:
            time.sleep(0.01)
    if waiting:
        raise SystemExit(f"no answer on {waiting} within {TIMEOUT_S} s")
    return time.perf_counter() - began


def resident_mb(pids: list[int]) -> float:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids) / 1e6


@contextlib.contextmanager
def stopped(children: list[subprocess.Popen[bytes]]) -> Iterator[None]:
    try:
        yield
    finally:
        for child in children:
            child.send_signal(signal.SIGTERM)
        for child in children:
            child.wait(timeout=TIMEOUT_S)


def sonia(folder: Path, *, warm: bool) -> tuple[float, float, float]:
    ports = free_ports(6)
    environment = os.environ | {
        "SONIA__PATHS__DATA": str(folder / "data"),
        "SONIA__PATHS__LOGS": str(folder / "logs"),
        "SONIA__SERVICES__OPENCLAW__WORKSPACE": str(folder / "workspace"),
        "SONIA__SERVICES__MODEL_ROUTER__PROVIDERS__LOCAL__WARM": json.dumps(warm),
    }
    for name, port in zip(NAMES, ports, strict=True):
        environment[f"SONIA__SERVICES__{name}__PORT"] = str(port)
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "sonia", "serve"], env=environment, stdout=subprocess.DEVNULL
    )
    with stopped([child]):
        took_s = until_healthy(ports, "/healthz", began)
        at_once = resident_mb([child.pid])
        time.sleep(5 if warm else 2)
        later = resident_mb([child.pid])
    return took_s, at_once, later


def six_empty(folder: Path) -> tuple[float, float, float]:
    (folder / "empty.py").write_text(EMPTY_APP)
    ports = free_ports(6)
    began = time.perf_counter()
    children = [
        subprocess.Popen(
            [sys.executable, "-m", "uvicorn", "empty:app", "--port", str(port)],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for port in ports
    ]
    with stopped(children):
        took_s = until_healthy(ports, "/", began)
        at_once = resident_mb([child.pid for child in children])
    return took_s, at_once, at_once


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    subjects = {
        "Sonia, models warming": lambda folder: sonia(folder, warm=True),
        "Sonia, warm = false": lambda folder: sonia(folder, warm=False),
        "six empty uvicorns": six_empty,
    }
    figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in subjects}
    for _ in range(runs):
        for name, measure in subjects.items():
            with tempfile.TemporaryDirectory() as folder:
                figures[name].append(measure(Path(folder)))
    print(f"{'':<24}{'s to six healthy ports':>28}{'MB then':>24}{'MB later':>24}")
    for name, rows in figures.items():
        cells = []
        for column in zip(*rows, strict=True):
            low, high = min(column), max(column)
            cells.append(f"{statistics.median(column):.2f} ({low:.2f}-{high:.2f})")
        print(f"{name:<24}{cells[0]:>28}{cells[1]:>24}{cells[2]:>24}")
    print(f"{runs} runs of each, in turn; median (least-most); {os.cpu_count()} cores.")


if __name__ == "__main__":
    main()
