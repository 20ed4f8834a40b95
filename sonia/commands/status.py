"""`sonia status`: a line per service, and what the models are doing."""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec

from sonia.commands.server import GATEWAY, Server
from sonia.config import Config
from sonia.errors import SoniaError
from sonia.running import read

SERVICES = ("api-gateway", "model-router", "memory-engine", "pipecat", "openclaw", "eva-os")
NOT_RUNNING = 3


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How one service answered; `latency_ms` includes connecting."""

    service: str
    ok: bool
    port: int | None = None
    latency_ms: float | None = None
    reason: str | None = None


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Say how each service is: port, health, latency."
    more = f"{about} Exit status: 0 when all six are healthy, 1 when not, 3 when not running."
    parser = subparsers.add_parser("status", help=about, description=more)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Ask every service at once and print what they said."""
    running = read(config.data)
    if running is None:
        told = {"running": False, "data": str(config.data)}
        print(json.dumps(told) if args.json else f"Not running (data folder {config.data}).")
        return NOT_RUNNING
    server = Server(running)
    with ThreadPoolExecutor(len(SERVICES)) as pool:
        vitals = list(pool.map(lambda name: ask(server, name), SERVICES))
    weights = _weights(server)
    if args.json:
        told = {
            "running": True,
            **msgspec.to_builtins(running),
            "services": msgspec.to_builtins(vitals),
            "weights": weights,
        }
        print(json.dumps(told, indent=2))
    else:
        print(f"Running since {running.started_at} (pid {running.pid}, {running.version})")
        for health in vitals:
            print(_line(health))
        for progress in weights:
            print(_weights_line(progress))
    return 0 if all(health.ok for health in vitals) else 1


def ask(server: Server, service: str) -> Health:
    """Ask one service for its health, on its own port."""
    port = server.running.ports.get(service)
    if port is None:
        return Health(service=service, ok=False, reason="not served (--only)")
    began = time.perf_counter()
    try:
        status, answer = server.bare(service, "/healthz")
    except SoniaError as error:
        return Health(service=service, ok=False, port=port, reason=error.message)
    ours = isinstance(answer, dict) and answer.get("service") == service
    ok = status == 200 and ours and answer.get("ok") is True
    reason = None
    if not ok:
        reason = str(answer.get("reason") or f"status {status}") if ours else "not Sonia's answer"
    latency_ms = round((time.perf_counter() - began) * 1000, 1)
    return Health(service=service, ok=ok, port=port, latency_ms=latency_ms, reason=reason)


def _weights(server: Server) -> list[dict[str, Any]]:
    """Weights that are not ready, as the gateway's `/status` tells of them."""
    try:
        _, status = server.bare(GATEWAY, "/status")
    except SoniaError:
        return []  # its health line says so already
    found = status.get("detail", {}).get("weights", {}) if isinstance(status, dict) else {}
    return [one for one in found.values() if one.get("stage") != "ready"]


def _line(health: Health) -> str:
    port = health.port if health.port is not None else "-"
    latency = f"{health.latency_ms:6.1f} ms" if health.latency_ms is not None else ""
    state = "ok" if health.ok else "down"
    return f"{health.service:<14} {port:>5}  {state:<5} {latency} {health.reason or ''}".rstrip()


def _weights_line(progress: dict[str, Any]) -> str:
    done, total = progress.get("done_bytes") or 0, progress.get("total_bytes") or 0
    share = f" {100 * done // total} % of {total / 1e6:,.0f} MB" if done and total else ""
    why = f" ({progress['message']})" if progress.get("message") else ""
    return f"weights        {progress.get('name')}: {progress.get('stage')}{share}{why}"
