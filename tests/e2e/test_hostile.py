"""Malformed, huge, unknown and forged requests over the real socket: a clear envelope each."""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sonia.types import new_id
from tests.e2e.conftest import ROOT, Server

CORPUS = ROOT.parent / "shared/data/security/json/jsontestsuite_parsing.jsonl"
FEW = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"text"',
    b"{]",
    b"\xff\xfe{\x00}\x00",
    b'{"text": "\xff"}',
    b'{"text": "\\ud800"}',
    b"[" * 50_000,
    b'{"a":' * 20_000,
    b"NaN",
    b"1e999999",
    b'{"text": "a", "text": 5}',
    b"\xef\xbb\xbf{}",
    b"{'text': 'a'}",
    b'{"text": "a"} trailing',
]
ROUTES = [
    ("api-gateway", "POST", "/v1/chat"),
    ("api-gateway", "POST", "/v1/turn"),
    ("api-gateway", "POST", "/v1/action"),
    ("api-gateway", "POST", "/v1/sessions"),
    ("model-router", "POST", "/chat"),
    ("model-router", "POST", "/select"),
    ("model-router", "POST", "/embeddings"),
    ("memory-engine", "POST", "/store"),
    ("memory-engine", "POST", "/search"),
    ("memory-engine", "PUT", "/recall/mem_x"),
    ("memory-engine", "POST", "/v1/memory/append"),
    ("pipecat", "POST", "/session/start"),
    ("pipecat", "POST", "/session/stop"),
    ("openclaw", "POST", "/execute"),
    ("eva-os", "POST", "/gate-tool-call"),
    ("eva-os", "POST", "/approve"),
    ("eva-os", "PUT", "/policy"),
]


def cases() -> list[bytes]:
    if not CORPUS.is_file():
        return FEW
    lines = CORPUS.read_text(encoding="utf-8").splitlines()
    return FEW + [base64.b64decode(json.loads(line)["b64"]) for line in lines]


def check_failure(answer: httpx.Response) -> None:
    body = answer.json()
    assert set(body) == {
        "ok",
        "service",
        "operation",
        "correlation_id",
        "duration_ms",
        "data",
        "error",
    }
    assert (body["ok"], body["data"]) == (False, None)
    assert set(body["error"]) == {"code", "message", "details", "retryable"}
    assert body["error"]["message"]
    assert "Traceback" not in answer.text
    assert answer.headers["x-correlation-id"] == body["correlation_id"]


@pytest.mark.parametrize(("service", "method", "path"), ROUTES)
def test_t40_no_body_makes_a_route_fail(
    server: Server, service: str, method: str, path: str
) -> None:
    headers = {"content-type": "application/json", **server.token}
    odd: list[tuple[bytes, int, str]] = []

    with server.client(service, headers=headers) as client:
        for body in cases():
            answer = client.request(method, path, content=body)
            if answer.status_code >= 400 and answer.status_code != 404:
                check_failure(answer)
            if answer.status_code >= 500 or answer.status_code in (408,):
                odd.append((body[:60], answer.status_code, answer.text[:200]))

    assert odd == []


WRONG: list[tuple[str, str, dict[str, Any], str]] = [
    ("api-gateway", "/v1/chat", {"text": "hi", "colour": "red"}, "colour"),
    ("api-gateway", "/v1/chat", {"text": 5}, "text"),
    ("api-gateway", "/v1/chat", {"text": ""}, "text"),
    ("api-gateway", "/v1/chat", {}, "text"),
    ("api-gateway", "/v1/chat", {"text": "x" * 40_000}, "text"),
    ("api-gateway", "/v1/chat", {"text": "hi", "session_id": "../../etc"}, "session_id"),
    ("api-gateway", "/v1/chat", {"text": "hi", "stream": "yes"}, "stream"),
    ("api-gateway", "/v1/action", {"tool_name": "math.evaluate", "args": []}, "args"),
    ("memory-engine", "/store", {"type": "fact"}, "content"),
    ("memory-engine", "/store", {"type": "fact", "content": "x", "importance": 7}, "importance"),
    ("memory-engine", "/store", {"type": "fact", "content": "x", "origin": "owner"}, "origin"),
    ("memory-engine", "/search", {"query": "x", "limit": 0}, "limit"),
    ("memory-engine", "/search", {"query": "x", "mode": "magic"}, "mode"),
    ("openclaw", "/execute", {"tool_name": "math.evaluate", "args": {"x": 1}}, "x"),
    ("eva-os", "/approve", {"approval_id": "apr_x", "decision": "maybe"}, "decision"),
]


@pytest.mark.parametrize(("service", "path", "body", "field"), WRONG)
def test_a_wrong_field_is_named(
    server: Server, service: str, path: str, body: dict[str, Any], field: str
) -> None:
    with server.client(service) as client:
        answer = client.post(path, json=body, headers=server.token)

    assert answer.status_code == 400
    check_failure(answer)
    assert answer.json()["error"]["code"] == "invalid_request"
    assert field in answer.text


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_50_mb_is_refused(server: Server, chunked: bool) -> None:
    piece = b"x" * 1_000_000
    body = (piece for _ in range(50)) if chunked else piece * 50

    with server.client() as client:
        answer = client.post("/v1/chat", content=body, headers={"content-type": "application/json"})

    assert answer.status_code == 413
    check_failure(answer)


@pytest.mark.parametrize(
    "path", ["/nope", "/v1/nope", "/memory/nope", "/v1/chat/x", "/%00", "/\u00e9"]
)
def test_an_unknown_route_is_a_clear_404(server: Server, path: str) -> None:
    with server.client() as client:
        answer = client.get(path)

    assert answer.status_code == 404
    check_failure(answer)


def test_a_wrong_method_names_the_right_one(server: Server) -> None:
    with server.client() as client:
        answer = client.get("/v1/chat")

    assert answer.status_code == 405
    check_failure(answer)
    assert "POST" in answer.json()["error"]["message"]


def test_an_unknown_tool_is_a_clear_404(server: Server) -> None:
    with server.client() as client:
        answer = client.post("/v1/action", json={"tool_name": "Shell.Run", "args": {}})

    assert answer.status_code == 404
    check_failure(answer)
    assert "shell.run" in answer.text


def test_the_correlation_id_is_carried_into_answer_log_and_ledger(server: Server) -> None:
    name = new_id("check")
    with server.client(headers={"x-correlation-id": name}) as client:
        answer = client.post(
            "/v1/action", json={"tool_name": "math.evaluate", "args": {"expression": "1+1"}}
        )
    with server.client("eva-os") as control:
        rows: list[dict[str, Any]] = []
        while page := control.get(f"/audit?after={len(rows)}&limit=1000").json()["data"]:
            rows += page

    assert answer.headers["x-correlation-id"] == name
    assert answer.json()["correlation_id"] == name
    assert any(row["correlation_id"] == name for row in rows)
    assert _logged(server, name)["path"] == "/v1/action"


def _logged(server: Server, correlation_id: str, service: str = "api-gateway") -> dict[str, Any]:
    """The log line of a request, once it is written."""
    log = server.folder / "logs/services" / f"{service}.log"
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for line in log.read_text().splitlines():
            event: dict[str, Any] = json.loads(line)
            if (event.get("correlation_id"), event["event"]) == (correlation_id, "request"):
                return event
    raise AssertionError(f"no line of {correlation_id}")


LONG = "Count to a hundred in words."


@pytest.mark.parametrize(
    ("service", "path", "body"),
    [
        ("api-gateway", "/v1/chat", {"text": LONG}),
        ("model-router", "/chat", {"messages": [{"role": "user", "content": LONG}]}),
    ],
)
def test_a_client_that_goes_away_cancels_what_it_asked_for(
    server: Server, service: str, path: str, body: dict[str, Any]
) -> None:
    name = new_id("gone")
    with server.client(service, headers={"x-correlation-id": name}) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(path, json=body, timeout=0.3)
        gone = _logged(server, name, service)

    assert gone["status"] == 499
    assert gone["duration_ms"] < 20_000  # the whole answer takes longer


def test_t34_a_forged_page_can_do_nothing(server: Server) -> None:
    forged = [
        {"origin": "http://evil.example", "content-type": "application/json"},
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"sec-fetch-site": "cross-site", "content-type": "application/json"},
        {"host": "evil.example", "content-type": "application/json"},
    ]

    for service, method, path in ROUTES:
        with server.client(service) as client:
            for headers in forged:
                answer = client.request(method, path, content=b"{}", headers=headers)
                assert answer.status_code in (400, 403), (service, path, headers)


def test_r18_half_sent_requests_do_not_hold_others_up(server: Server) -> None:
    assert server.running is not None
    address = ("127.0.0.1", server.running.ports["api-gateway"])
    head = f"POST /v1/chat HTTP/1.1\r\nHost: localhost:{address[1]}\r\nContent-Length: 9\r\n\r\n"
    half = [socket.create_connection(address) for _ in range(100)]
    try:
        for item in half:
            item.sendall(head.encode())
        with server.client() as client:
            answer = client.get("/healthz")
    finally:
        for item in half:
            item.close()

    assert answer.status_code == 200


def test_r01_kill_9_during_a_hundred_writes_loses_nothing_acknowledged(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(tmp_path, "--only", "memory")
    acknowledged: list[str] = []
    enough = threading.Event()

    def write(number: int) -> None:
        try:
            with server.client("memory-engine") as client:
                for turn in range(50):
                    body = {"type": "fact", "content": f"owl {number} number {turn}"}
                    answer = client.post("/store", json=body)
                    acknowledged.append(answer.json()["data"]["id"])
                    if len(acknowledged) >= 100:
                        enough.set()
        except (httpx.HTTPError, KeyError, TypeError):
            enough.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    assert enough.wait(60)
    assert server.process is not None
    server.process.kill()
    for writer in writers:
        writer.join()
    server.end()

    again = start(tmp_path, "--only", "memory")
    with again.client("memory-engine") as client:
        lost = [
            entry for entry in acknowledged if client.get(f"/recall/{entry}").status_code != 200
        ]
        found = client.post("/search", json={"query": "owl", "limit": 1000, "mode": "text"})
        until = time.monotonic() + 60
        while time.monotonic() < until:  # what was not in the index yet follows by itself
            stats = client.get("/query/stats").json()["data"]
            if stats["text_documents"] == stats["memories"]:
                break
            time.sleep(0.02)
    again.end()

    assert len(acknowledged) >= 100
    assert lost == []
    assert {hit["entry"]["id"] for hit in found.json()["data"]["hits"]} >= set(acknowledged)
    assert stats["text_documents"] == stats["memories"]
