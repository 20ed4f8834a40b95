"""What a relay adds: Sonia beside LiteLLM proxy and the bare upstream, in one run.

    python -m benchmarks.relay --peer-python /path/to/venv/bin/python [--seconds 4]

Requests a second, and the latency added to the bare upstream's at the median and the 99th
percentile, with 1, 16 and 64 connections, plain and streamed (20 words, a chunk each), and the
processor time a request takes, which a machine busy with other things distorts least; the time to
the first event of a stream, alone and among 16. Sonia runs as shipped, with an API key, her
cache (every prompt is new; hits are a row of their own) and her log. LiteLLM proxy (pinned in
benchmarks/requirements-peers.txt, in a venv of its own) runs in production mode with a master key.
Gateways have one core, load generator (`wrk`) and upstream another. Takes about
`seconds` x 30 + 60 s; without a peer or without wrk it says so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil

CONNECTIONS = (1, 16, 64)
START_S = 90.0
WARM_S = 1
FIRSTS = 300  # streams whose first event is waited for
SERVICES = ["API_GATEWAY", "MODEL_ROUTER", "MEMORY_ENGINE", "PIPECAT", "OPENCLAW", "EVA_OS"]
SCRIPT = """
local stream, fixed, key = %s, %s, "%s"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Authorization"] = "Bearer " .. key
local seed, count = "%s", 0
function request()
  count = count + 1
  local prompt = fixed and "the same again" or (seed .. "-" .. count)
  local body = string.format('{"model":"%s","temperature":0,"stream":%%s,"messages":'
    .. '[{"role":"user","content":"Tell me about %%s."}]}', tostring(stream), prompt)
  return wrk.format(nil, "%s", nil, body)
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('RESULT {"requests":%%d,"us":%%d,"p50":%%f,"p99":%%f,"errors":%%d}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.connect + e.read + e.write + e.status + e.timeout))
end
"""


class Target(NamedTuple):
    """Somebody to ask."""

    name: str
    port: int
    model: str
    key: str
    path: str = "/v1/chat/completions"
    pid: int = 0  # whose processor time is counted; 0: nobody's


class Load(NamedTuple):
    """What one run of wrk saw; latencies in ms, the gateway's processor time a request in µs."""

    per_s: float
    p50: float
    p99: float
    errors: int
    cpu_us: float


def main() -> None:
    """Start everyone, ask everyone the same, print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=4, help="of each measurement")
    parser.add_argument("--peer-python", type=Path, help="of a venv with litellm[proxy]")
    parser.add_argument("--no-peer", action="store_true", help="Sonia and the upstream only")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        sys.exit("wrk is not installed (Debian: apt-get install wrk).")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        upstream = stack.enter_context(running_upstream())
        targets = [Target("upstream", upstream, "mock", "none")]
        targets.append(stack.enter_context(running_sonia(folder, upstream)))
        if not options.no_peer and (peer := options.peer_python) and peer.exists():
            targets.append(stack.enter_context(running_litellm(folder, upstream, peer)))
        else:
            print("LiteLLM proxy is not measured: give --peer-python.")
        measure(targets, folder, options.seconds)


def measure(targets: list[Target], folder: Path, seconds: int) -> None:
    """Print the tables, interleaving the targets."""
    for stream in (False, True):
        print(f"\n{'streamed' if stream else 'plain'}: requests/s; added ms at p50, p99")
        for connections in CONNECTIONS:
            found = {
                target.name: load(target, folder, connections, seconds, stream=stream)
                for target in targets
            }
            show(connections, found)
    sonia = targets[1]
    print("\nanswers from Sonia's cache, plain")
    base = load(targets[0], folder, 16, seconds)
    show(16, {"upstream": base, "sonia": load(sonia, folder, 16, seconds, fixed=True)})
    print("\nfirst event of a stream, ms added at the median")
    for connections in (1, 16):
        firsts = {target.name: first_event_ms(target, connections) for target in targets}
        base_ms = firsts.pop("upstream")
        told = ", ".join(f"{name} {ms - base_ms:.2f}" for name, ms in firsts.items())
        print(f"  {connections:>2} at once: {told} (upstream itself {base_ms:.2f})")


def show(connections: int, found: dict[str, Load]) -> None:
    """One line a target, with what it adds to the bare upstream, and how Sonia compares."""
    base = found["upstream"]
    for name, seen in found.items():
        added = (
            ""
            if name == "upstream"
            else f"+{seen.p50 - base.p50:.2f}, +{seen.p99 - base.p99:.2f}  {seen.cpu_us:.0f} µs"
        )
        failed = f"  {seen.errors} ERRORS" if seen.errors else ""
        print(f"  {connections:>2}  {name:<9} {seen.per_s:>8.0f}/s  {added}{failed}")
    if "litellm" in found:
        sonia, peer = found["sonia"], found["litellm"]
        slower = (peer.p50 - base.p50) / max(0.001, sonia.p50 - base.p50)
        times = sonia.per_s / max(0.001, peer.per_s)
        cheaper = peer.cpu_us / max(0.001, sonia.cpu_us)
        print(
            f"      sonia: {times:.1f} times as many, 1/{slower:.1f} of the added p50, "
            f"1/{cheaper:.1f} of the processor time"
        )


def load(
    target: Target,
    folder: Path,
    connections: int,
    seconds: int,
    *,
    stream: bool = False,
    fixed: bool = False,
) -> Load:
    """Have wrk ask, after a moment of warming."""
    result: dict[str, Any] = {}
    used_s = 0.0
    for duration in (WARM_S, seconds):
        seed = secrets.token_hex(4)
        values = (_lua(stream), _lua(fixed), target.key, seed, target.model, target.path)
        script = folder / "ask.lua"
        script.write_text(SCRIPT % values)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{duration}s", "--timeout", "30s"]
        url = f"http://127.0.0.1:{target.port}"
        before_s = _cpu_s(target.pid)
        told = subprocess.run(
            [*pinned(1), *command, "-s", str(script), url],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        used_s = _cpu_s(target.pid) - before_s
        line = next(line for line in told.splitlines() if line.startswith("RESULT "))
        result = json.loads(line.removeprefix("RESULT "))
    per_s = result["requests"] / (result["us"] / 1e6)
    cpu_us = used_s / max(1, result["requests"]) * 1e6
    return Load(per_s, result["p50"] / 1000, result["p99"] / 1000, result["errors"], cpu_us)


def _cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far."""
    if not pid:
        return 0.0
    process = psutil.Process(pid)
    times = [one.cpu_times() for one in (process, *process.children(recursive=True))]
    return sum(time.user + time.system for time in times)


def first_event_ms(target: Target, connections: int) -> float:
    """The median time until the first piece of text of a stream."""
    found: list[float] = []
    sockets = [socket.create_connection(("127.0.0.1", target.port)) for _ in range(connections)]
    try:
        for round_ in range(-3, FIRSTS // connections):  # three to warm up
            began = {}
            for index, line in enumerate(sockets):
                began[line] = time.perf_counter()
                line.sendall(_request(target, f"{round_}-{index}-{secrets.token_hex(4)}"))
            for line in sockets:
                received = b""
                while b'"content":"word' not in received and b'"content": "word' not in received:
                    received += line.recv(65536)
                if round_ >= 0:
                    found.append((time.perf_counter() - began[line]) * 1000)
                while not received.endswith(b"0\r\n\r\n"):
                    received += line.recv(65536)
    finally:
        for line in sockets:
            line.close()
    return statistics.median(found)


def _request(target: Target, prompt: str) -> bytes:
    asks = {"role": "user", "content": prompt}
    body = {"model": target.model, "stream": True, "temperature": 0, "messages": [asks]}
    data = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"POST {target.path} HTTP/1.1\r\nHost: 127.0.0.1:{target.port}\r\n"
        f"Authorization: Bearer {target.key}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\n\r\n"
    )
    return head.encode() + data


def _lua(value: bool) -> str:
    return "true" if value else "false"


def pinned(core: int) -> list[str]:
    """Words before a command that keep it on one core, where there are two."""
    several = (os.cpu_count() or 1) > 1 and shutil.which("taskset")
    return ["taskset", "-c", str(core)] if several else []


# --- who is asked ----------------------------------------------------------------------------


@contextlib.contextmanager
def running_upstream() -> Iterator[int]:
    """The mock provider's port."""
    command = [*pinned(1), sys.executable, "-m", "benchmarks.relay_upstream"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield int(process.stdout.readline())
        finally:
            process.kill()


@contextlib.contextmanager
def running_sonia(folder: Path, upstream: int) -> Iterator[Target]:
    """Sonia as shipped, with a key, her model being the mock's."""
    provider = "SONIA__SERVICES__MODEL_ROUTER__PROVIDERS__OPENROUTER__"
    environment = os.environ | {
        **{f"SONIA__SERVICES__{name}__PORT": "0" for name in SERVICES},
        "SONIA__PATHS__DATA": str(folder / "data"),
        "SONIA__PATHS__LOGS": str(folder / "logs"),
        "SONIA__SERVICES__OPENCLAW__WORKSPACE": str(folder / "workspace"),
        "SONIA__SERVICES__MODEL_ROUTER__PROVIDERS__LOCAL__WARM": "false",
        f"{provider}BASE_URL": f"http://127.0.0.1:{upstream}/v1",
        f"{provider}API_KEY": "sk-of-the-mock",
    }
    sonia = [sys.executable, "-m", "sonia"]
    made = subprocess.run(
        [*sonia, "keys", "create", "bench"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    key = made.stdout.strip()
    out = (folder / "sonia.out").open("w")
    with (
        out,
        subprocess.Popen([*pinned(0), *sonia, "serve"], env=environment, stdout=out) as process,
    ):
        try:
            port = _sonia_port(folder / "data", process)
            target = Target("sonia", port, "openrouter/mock/mock", key, pid=process.pid)
            _until_answering(target)
            yield target
        finally:
            process.terminate()
            process.wait(30)


def _sonia_port(data: Path, process: subprocess.Popen[Any]) -> int:
    from sonia.running import read

    until = time.monotonic() + START_S
    while time.monotonic() < until:
        if (running := read(data)) and process.poll() is None:
            return running.ports["api-gateway"]
        time.sleep(0.1)
    raise SystemExit("Sonia did not start.")


@contextlib.contextmanager
def running_litellm(folder: Path, upstream: int, python: Path) -> Iterator[Target]:
    """LiteLLM proxy at its best: production mode, one worker, no price list fetched."""
    key = f"sk-{secrets.token_hex(16)}"
    settings = {
        "model_list": [
            {
                "model_name": "mock",
                "litellm_params": {
                    "model": "openai/mock",
                    "api_base": f"http://127.0.0.1:{upstream}/v1",
                    "api_key": "sk-of-the-mock",
                },
            }
        ],
        "general_settings": {"master_key": key},
        "litellm_settings": {"telemetry": False, "num_retries": 0},
    }
    config = folder / "litellm.yaml"
    config.write_text(json.dumps(settings))  # JSON is YAML
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"
    } | {
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_LOG": "ERROR",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": key,
    }
    words = [
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    command = [*pinned(0), str(python.with_name("litellm")), *words]
    out = (folder / "litellm.out").open("w")
    with (
        out,
        subprocess.Popen(command, env=environment, cwd=folder, stdout=out, stderr=out) as process,
    ):
        try:
            target = Target("litellm", port, "mock", key, pid=process.pid)
            _until_answering(target)
            yield target
        finally:
            process.kill()
            process.wait(30)


def _until_answering(target: Target) -> None:
    """Until a real request is answered: what is loaded at the first has been loaded then."""
    body = {"model": target.model, "messages": [{"role": "user", "content": "Are you there?"}]}
    headers = {"content-type": "application/json", "authorization": f"Bearer {target.key}"}
    url = f"http://127.0.0.1:{target.port}{target.path}"
    until = time.monotonic() + START_S
    last: Exception | None = None
    while time.monotonic() < until:
        try:
            request = urllib.request.Request(url, json.dumps(body).encode(), headers)
            with urllib.request.urlopen(request, timeout=60):  # noqa: S310
                return
        except urllib.error.HTTPError as error:
            last = error
            last.add_note(error.read().decode(errors="replace"))
        except OSError as error:
            last = error
        time.sleep(0.3)
    raise SystemExit(f"{target.name} does not answer: {last} {getattr(last, '__notes__', '')}")


if __name__ == "__main__":
    main()
