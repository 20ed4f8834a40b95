"""`sonia serve`: start all of it, say how it is, and stop cleanly."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from sonia.config import Config
from sonia.errors import Unavailable

DETACH_TIMEOUT_S = 60.0
FOLLOW_S = 0.25
EPILOG = """\
examples:
  sonia serve                          all six services, until Ctrl-C
  sonia serve --detach                 the same in the background; stop it with: sonia stop
  sonia serve --only memory,router     a part
  SONIA__SERVICES__API_GATEWAY__PORT=8000 sonia serve

Ctrl-C or SIGTERM lets in-flight work end; a second one ends it at once.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    parser = subparsers.add_parser(
        "serve",
        help="start Sonia",
        description="Start Sonia: six services in one process.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--detach", action="store_true", help="run in the background")
    parser.add_argument(
        "--only",
        metavar="MODULES",
        help="serve a part, separated by commas: gateway, router, memory, voice, tools, control",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Serve until told to stop; 0 after a clean stop."""
    if args.detach:
        return _detach(config)
    began = time.perf_counter()
    from sonia import server
    from sonia.app import MODULES, check_modules
    from sonia.log import open_logs

    modules = check_modules(args.only.split(",")) if args.only else MODULES
    with server.bind(config, modules) as bound:
        print(f"Configuration  {config.source or 'built-in defaults'}: valid", flush=True)
        logging = config.logging
        with open_logs(config.logs, level=logging.level, style=logging.format) as logs:
            telling = partial(_tell, began=began, logs=str(logs))
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                runner.run(server.serve(config, bound, host=telling))
    print("Stopped.", flush=True)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where there is one: a relayed answer costs about a third less with it."""
    try:
        import uvloop
    except ImportError:  # Windows
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


async def _tell(sonia: Any, running: Any, *, began: float, logs: str) -> None:
    took_s = time.perf_counter() - began
    vitals = await sonia.control.vitals()
    print("Services")
    for (name, port), vital in zip(running.ports.items(), _served(vitals, running), strict=True):
        print(f"  {name:<14} http://localhost:{port}   {_health(vital)}")
    print(f"Logs           {logs}")
    print(f"Data           {sonia.config.data}")
    print(f"Workspace      {sonia.config.workspace}")
    print(f"Ready in {took_s:.1f} s. From another terminal:  {_command()} chat", flush=True)
    await _follow_models(sonia)


def _served(vitals: dict[str, Any], running: Any) -> list[Any]:
    from sonia.server import SERVICES

    return [vitals.get(item.key) for item in SERVICES if item.name in running.ports]


def _health(vital: Any) -> str:
    return "ok" if vital and vital.ok else f"DOWN: {vital.reason if vital else 'not asked'}"


def _command() -> str:
    return "sonia" if Path(sys.argv[0]).name == "sonia" else "python3 -m sonia"


async def _follow_models(sonia: Any) -> None:
    """Say which weights are being fetched and how far they are, and when the model can answer."""
    told: dict[str, int] = {}
    while True:
        local = next(item for item in sonia.router.providers() if item.name == "local")
        for weights in sonia.weights.entries():
            now = sonia.weights.progress(weights.name)
            if now.stage == "downloading" and now.total_bytes:
                tenth = now.done_bytes * 10 // now.total_bytes
                if told.get(weights.name) != tenth:
                    told[weights.name] = tenth
                    size = f"{now.total_bytes / 1e6:.0f} MB"
                    print(f"Fetching       {weights.name}: {tenth * 10} % of {size}", flush=True)
        if local.state == "ready":
            print(f"Model          {local.models[0]} is ready", flush=True)
            return
        if local.state == "down":
            print(f"Model          {local.reason}", flush=True)
            return
        await asyncio.sleep(FOLLOW_S)


def _detach(config: Config) -> int:
    from sonia.running import read

    if running := read(config.data):
        print(f"Already running (pid {running.pid}).")
        return 0
    config.logs.mkdir(parents=True, exist_ok=True)
    output = config.logs / "serve.out"
    command = [sys.executable, "-m", "sonia", *_without_detach(sys.argv[1:])]
    with output.open("ab") as sink:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    until = time.monotonic() + DETACH_TIMEOUT_S
    while time.monotonic() < until:
        if child.poll() is not None:
            tail = output.read_text(encoding="utf-8", errors="replace").splitlines()[-5:]
            raise Unavailable("Sonia did not start:\n" + "\n".join(tail))
        if (running := read(config.data)) and running.pid == child.pid:
            print(f"Running in the background (pid {running.pid}). Output: {output}")
            return 0
        time.sleep(0.05)
    raise Unavailable(f"Sonia did not answer within {DETACH_TIMEOUT_S:.0f} s. See {output}.")


def _without_detach(argv: list[str]) -> list[str]:
    return [word for word in argv if word != "--detach"]
