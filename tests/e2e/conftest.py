"""Sonia as a person starts her: the real command, the shipped configuration, the real weights.

Only what must not collide is set from outside: free ports and folders of the test's own.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from sonia.running import Running, read

ROOT = Path(__file__).parent.parent.parent
START_TIMEOUT_S = 120
END_TIMEOUT_S = 120
PULL_TIMEOUT_S = 600
SERVICES = {
    "api-gateway": "API_GATEWAY",
    "model-router": "MODEL_ROUTER",
    "memory-engine": "MEMORY_ENGINE",
    "pipecat": "PIPECAT",
    "openclaw": "OPENCLAW",
    "eva-os": "EVA_OS",
}


class Server:
    """One `sonia serve`, in a folder that outlives it."""

    def __init__(self, folder: Path, *flags: str, **environment: str) -> None:
        self.folder = folder
        self.flags = flags
        self.data = folder / "data"
        self.environment = os.environ | {
            "SONIA_CONFIG": str(ROOT / "sonia.toml"),
            "SONIA__PATHS__DATA": str(self.data),
            "SONIA__PATHS__LOGS": str(folder / "logs"),
            "SONIA__SERVICES__OPENCLAW__WORKSPACE": str(folder / "workspace"),
            # A machine that does much else is slow, not broken.
            "SONIA__SERVICES__MODEL_ROUTER__FIRST_TOKEN_TIMEOUT_S": "250",
            "PYTHONUNBUFFERED": "1",
            **{f"SONIA__SERVICES__{name}__PORT": "0" for name in SERVICES.values()},
            **environment,
        }
        self.data = Path(self.environment["SONIA__PATHS__DATA"])
        self.cwd = ROOT
        self.process: subprocess.Popen[str] | None = None
        self.running: Running | None = None

    def start(self) -> Server:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sonia", "serve", *self.flags],
            env=self.environment,
            cwd=self.cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        until = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < until:
            running = read(self.data)
            if running and running.pid == self.process.pid:
                self.running = running
                return self
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"did not start:\n{self.end(signal.SIGKILL)[1]}")

    def end(self, kind: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Return the exit status and everything printed."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(kind)
        output, _ = self.process.communicate(timeout=END_TIMEOUT_S)
        return self.process.returncode, output

    def url(self, service: str = "api-gateway") -> str:
        assert self.running is not None
        return f"http://127.0.0.1:{self.running.ports[service]}"

    def client(self, service: str = "api-gateway", **kwargs: Any) -> httpx.Client:
        return httpx.Client(base_url=self.url(service), timeout=180, trust_env=False, **kwargs)

    def command(
        self, *words: str, text: str | None = None, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run another `sonia` command against this server, as a person would."""
        return subprocess.run(
            [sys.executable, "-m", "sonia", *words],
            env=self.environment | environment,
            cwd=ROOT,
            input=text,
            capture_output=True,
            text=True,
            timeout=180,
        )

    @property
    def token(self) -> dict[str, str]:
        token = (self.data / "operator.token").read_text().strip()
        return {"authorization": f"Bearer {token}"}

    def until_ready(self) -> None:
        """Wait until the chat model and the embedder answer (they may have to be pulled)."""
        until = time.monotonic() + PULL_TIMEOUT_S
        with self.client("model-router") as router:
            while time.monotonic() < until:
                providers = router.get("/providers").json()["data"]["providers"]
                states = {item["name"]: item["state"] for item in providers}
                if states["local"] == "ready":
                    answer = router.post("/embeddings", json={"texts": ["warm"]})
                    if answer.status_code == 200:
                        return
                time.sleep(0.2)
        raise AssertionError(f"the models are not ready: {states}")


@pytest.fixture(scope="session")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Make servers; those still running at the end are stopped."""
    made: list[Server] = []

    def make(folder: Path | None = None, *flags: str, **environment: str) -> Server:
        server = Server(folder or tmp_path_factory.mktemp("sonia"), *flags, **environment)
        made.append(server)
        return server.start()

    yield make
    for server in made:
        server.end()


@pytest.fixture(scope="session")
def server(start: Callable[..., Server]) -> Server:
    """One server for every test that leaves it as it was."""
    server = start()
    server.until_ready()
    return server
