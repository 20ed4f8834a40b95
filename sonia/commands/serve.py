"""`sonia serve`: start all of it, say how it is, and stop cleanly."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import time
from typing import Any

from sonia.config import Config
from sonia.errors import Unavailable

DETACH_TIMEOUT_S = 60.0
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
            asyncio.run(
                server.serve(
                    config, bound, ready=lambda sonia, now: _greet(sonia, now, began, str(logs))
                )
            )
    print("Stopped.", flush=True)
    return 0


def _greet(sonia: Any, running: Any, began: float, logs: str) -> None:
    lines = ["Services"]
    for name, port in running.ports.items():
        lines.append(f"  {name:<14} http://localhost:{port}/healthz")
    lines.append(f"Logs           {logs}")
    lines.append(f"Data           {sonia.config.data}")
    lines.append(f"Workspace      {sonia.config.workspace}")
    took_s = time.perf_counter() - began
    lines.append(f"Ready in {took_s:.1f} s. Talk to me from another terminal:  sonia chat")
    print("\n".join(lines), flush=True)


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
