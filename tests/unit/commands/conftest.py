"""A stand-in for the server process: real sockets, real lock, the answers of a script."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from sonia.config import parse
from sonia.running import Running, announce, holding
from tests.standing_in import StandInServer

SERVICES = ("api-gateway", "model-router", "memory-engine", "pipecat", "openclaw", "eva-os")
TOKEN = "operator-token-of-the-tests-0123456789abcdef"
Answer = Callable[["Handler", Any], None]


class Handler(BaseHTTPRequestHandler):
    """One request; what it says is in `StandIn.answers`."""

    protocol_version = "HTTP/1.1"
    stand_in: StandIn
    service: str

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        self._answer(json.loads(self.rfile.read(int(self.headers["content-length"]))))

    def _answer(self, body: Any) -> None:
        path = self.path.partition("?")[0]
        self.stand_in.asked.append((self.command, self.path, body, dict(self.headers)))
        if path == "/healthz":
            reason = self.stand_in.ill.get(self.service)
            health = {"ok": reason is None, "service": self.service, "timestamp": "now"}
            self.json(503 if reason else 200, health | ({"reason": reason} if reason else {}))
        elif answer := self.stand_in.answers.get(f"{self.command} {path}"):
            answer(self, body)
        else:
            self.failure(404, "not_found", f"No route {self.command} {path}.")

    def json(self, status: int, body: Any) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def data(self, data: Any) -> None:
        self.json(200, {"ok": True, "data": data, "error": None})

    def failure(self, status: int, code: str, message: str) -> None:
        self.json(status, {"ok": False, "data": None, "error": {"code": code, "message": message}})

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def event(self, kind: str, /, **data: Any) -> None:
        text = f"event: {kind}\ndata: {json.dumps({'turn_id': 'turn_1', **data})}\n\n".encode()
        self._chunk(b": still here\n\n" + text[:9])  # cut anywhere: chunks mean nothing
        self._chunk(text[9:])

    def end_events(self) -> None:
        self._chunk(b"")

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))
        self.wfile.flush()

    def log_message(self, *_: Any) -> None:
        pass


class StandIn:
    """Six listening ports. `ill` makes services unhealthy, `answers` maps routes to answers."""

    def __init__(self, data: Path, stack: ExitStack) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[tuple[str, str, Any, dict[str, str]]] = []
        self.ill: dict[str, str] = {}
        self.ports = {name: self._listen(name, stack) for name in SERVICES}
        self.data = data
        self.at_end = stack.callback
        stack.enter_context(holding(data))
        (data / "operator.token").write_text(TOKEN + "\n")
        (data / "operator.token").chmod(0o600)
        self.announce(self.ports)

    def announce(self, ports: dict[str, int]) -> None:
        told = Running(
            pid=os.getpid(), started_at="today", version="1", host="127.0.0.1", ports=ports
        )
        announce(self.data, told)

    def says(self, *pieces: str, session_id: str = "ses_1") -> None:
        """Answer every chat with these pieces."""

        def answer(handler: Handler, body: Any) -> None:
            handler.begin_events()
            handler.event("turn.started", session_id=body.get("session_id", session_id))
            for piece in pieces:
                handler.event("response.delta", text=piece)
            handler.event("response.done", data={"response": "".join(pieces)})
            handler.end_events()

        self.answers["POST /v1/chat"] = answer

    def _listen(self, service: str, stack: ExitStack) -> int:
        handler = type("Own", (Handler,), {"stand_in": self, "service": service})
        server = StandInServer(("127.0.0.1", 0), handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        stack.callback(thread.join)
        stack.callback(server.server_close)
        stack.callback(server.shutdown)
        return int(server.server_address[1])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a configuration of its own, and nothing from outside."""
    for name in [name for name in os.environ if name.startswith("SONIA")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))  # for processes of ours
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sonia.toml").touch()
    return tmp_path


@pytest.fixture
def stand_in(folder: Path) -> Iterator[StandIn]:
    """A server that lives in `folder`."""
    with ExitStack() as stack:
        yield StandIn(parse({}, root=str(folder)).data, stack)
