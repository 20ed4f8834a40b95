"""`sonia stop`: ask the running server to end, and wait until it has."""

from __future__ import annotations

import argparse
import os
import signal
import time
from pathlib import Path
from typing import Any

from sonia.config import Config
from sonia.errors import Conflict, Forbidden
from sonia.running import Running, read

POLL_S = 0.05
LAST_MOMENT_S = 5.0


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Stop the running Sonia and wait until she is gone."
    more = f"{about} In-flight work may end first. Not running is fine too: exit status 0."
    parser = subparsers.add_parser("stop", help=about, description=more)
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="wait so many seconds (30)"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Stop; 0 also when there was nothing to stop, since then all is as was wanted."""
    running = read(config.data)
    if running is None:
        print(f"Not running (data folder {config.data}).")
        return 0
    print(f"Stopping Sonia (pid {running.pid})…", flush=True)
    _ask(running)
    if not _gone(config.data, running, args.timeout):
        raise Conflict(
            f"Sonia (pid {running.pid}) still runs after {args.timeout:g} s. "
            "Run `sonia stop` again: a second request ends in-flight work at once."
        )
    print("Stopped.")
    return 0


def _ask(running: Running) -> None:
    try:
        os.kill(running.pid, signal.SIGTERM)
    except ProcessLookupError:
        return  # gone meanwhile
    except PermissionError as error:
        raise Forbidden(
            f"Process {running.pid} belongs to another user. Stop it as that user."
        ) from error


def _gone(data: Path, running: Running, timeout_s: float) -> bool:
    """Wait for the lock to be free, then for the process itself (a zombie counts as gone)."""
    import psutil

    until = time.monotonic() + timeout_s
    while (still := read(data)) is not None and still.pid == running.pid:
        if time.monotonic() >= until:
            return False
        time.sleep(POLL_S)
    until = max(until, time.monotonic() + LAST_MOMENT_S)
    while time.monotonic() < until:
        try:
            if psutil.Process(running.pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(POLL_S)
    return False
