"""The product: the command a person types, talked to over all six ports, and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import websockets

import sonia
from sonia.config import parse
from sonia.memory import NewMemory, Query
from sonia.tools import Call
from tests.e2e.conftest import ROOT, SERVICES, Server

PREFIXES = {
    "api-gateway": "",
    "model-router": "/router",
    "memory-engine": "/memory",
    "pipecat": "/voice",
    "openclaw": "/tools",
    "eva-os": "/control",
}
RFC3339 = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def events(answer: httpx.Response) -> Iterator[tuple[str, dict[str, Any]]]:
    name = ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            yield name, json.loads(line.removeprefix("data: "))


# --- six ports -----------------------------------------------------------------------------


@pytest.mark.parametrize("service", SERVICES)
def test_every_port_is_healthy_at_its_root_and_at_its_prefix(server: Server, service: str) -> None:
    with server.client(service) as client:
        own = client.get("/healthz").json()
        prefixed = client.get(f"{PREFIXES[service]}/healthz").json()

    assert (own["ok"], own["service"]) == (True, service)
    assert RFC3339.match(own["timestamp"])
    assert set(own) == {"ok", "service", "timestamp"}
    assert prefixed["service"] == service


@pytest.mark.parametrize("service", SERVICES)
@pytest.mark.parametrize("path", ["/", "/status", "/version"])
def test_every_service_says_what_it_is(server: Server, service: str, path: str) -> None:
    with server.client(service) as client:
        answer = client.get(path)

    assert answer.status_code == 200
    assert answer.json()["service"] == service
    assert answer.json()["version"]


def test_the_gateway_says_how_the_others_are(server: Server) -> None:
    with server.client() as client:
        body = client.get("/v1/deps").json()

    assert (body["ok"], body["service"], body["operation"]) == (True, "api-gateway", "deps")
    assert {name: item["status"] for name, item in body["data"].items()} == dict.fromkeys(
        ("memory_engine", "model_router", "openclaw", "pipecat", "eva_os"), "ok"
    )
    assert all(item["duration_ms"] >= 0 for item in body["data"].values())


# --- the deployment guide's examples -----------------------------------------------------


def test_the_guides_chat_example_is_answered(server: Server) -> None:
    with server.client() as client:
        body = client.post("/v1/chat", json={"text": "What is the capital of France?"}).json()

    assert body["ok"], body
    assert body["operation"] == "chat"
    assert "Paris" in body["data"]["response"]
    assert body["data"]["model"].startswith("local/")
    assert body["data"]["usage"]["completion_tokens"] > 0


def test_the_guides_tool_example_says_what_this_hosts_shell_is(server: Server) -> None:
    action = {"tool_name": "shell.run", "args": {"command": "Get-ChildItem"}}

    with server.client() as client:
        answer = client.post("/v1/action", json=action)

    assert answer.status_code == 400
    message = answer.json()["error"]["message"]
    assert "/bin/sh" in message
    assert "ls" in message


async def test_the_guides_voice_example_is_answered(server: Server) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        started = await client.post(f"{server.url('pipecat')}/session/start")
    session_id = started.json()["data"]["session_id"]
    url = f"{server.url('pipecat').replace('http', 'ws')}/ws/{session_id}"
    heard: list[dict[str, Any]] = []

    async with asyncio.timeout(90), websockets.connect(url, proxy=None) as socket:
        message = {"type": "MESSAGE", "data": {"text": "Hello, how are you?"}}
        await socket.send(json.dumps(message))
        async for raw in socket:
            heard.append(json.loads(raw))
            if heard[-1]["type"] == "TURN_METRICS":
                break

    kinds = [frame["type"] for frame in heard]
    assert kinds[:2] == ["SESSION_START", "STATUS"]
    deltas = "".join(frame["data"]["text"] for frame in heard if frame["type"] == "RESPONSE_DELTA")
    whole = next(frame["data"]["text"] for frame in heard if frame["type"] == "MESSAGE")
    assert deltas == whole != ""
    assert all(frame["session_id"] == session_id for frame in heard)


# --- remembering -------------------------------------------------------------------------


def test_what_was_said_is_known_in_another_session_after_a_restart(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    first = start(tmp_path)
    first.until_ready()
    with first.client() as client:
        told = client.post("/v1/chat", json={"text": "My dog is called Biscuit."}).json()
    assert first.end()[0] == 0

    second = start(tmp_path)
    second.until_ready()
    with second.client() as client:
        asked = client.post("/v1/chat", json={"text": "What is my dog called?"}).json()
    second.end()

    assert told["data"]["memory"]["written"] == 1
    assert asked["data"]["session_id"] != told["data"]["session_id"]
    assert asked["data"]["memory"]["retrieved"] >= 1
    assert "Biscuit" in asked["data"]["response"]


# --- acting ------------------------------------------------------------------------------


def test_a_command_waits_for_approval_and_runs_once(server: Server) -> None:
    action = {"tool_name": "shell.run", "args": {"command": "echo approved-$((40 + 2))"}}
    with server.client() as client:
        asked = client.post("/v1/action", json=action)
        approval_id = asked.json()["data"]["approval_id"]
        url = f"/v1/approvals/{approval_id}/approve"
        without = client.post(url, json={})
        approved = client.post(url, json={}, headers=server.token)
        again = client.post(url, json={}, headers=server.token)
        done = _finished(client, asked.json()["data"]["action_id"])

    assert asked.status_code == 202
    assert without.status_code == 401
    assert approved.status_code == 200
    assert again.status_code == 409
    assert done["status"] == "executed"
    assert "approved-42" in json.dumps(done["result"])


def _finished(client: httpx.Client, action_id: str) -> dict[str, Any]:
    for _ in range(400):
        outcome: dict[str, Any] = client.get(f"/v1/actions/{action_id}").json()["data"]
        if outcome["status"] != "approval_required":
            return outcome
    raise AssertionError(f"never ran: {outcome}")


def test_an_approval_is_for_one_call_and_one_use(server: Server) -> None:
    def call(text: str, approval_id: str | None = None) -> dict[str, Any]:
        args = {"path": "note.txt", "content": text}
        return {"tool_name": "file.write", "args": args, "approval_id": approval_id}

    with server.client("openclaw") as tools, server.client("eva-os") as control:
        approval_id = tools.post("/execute", json=call("yes")).json()["data"]["approval_id"]
        body = {"approval_id": approval_id, "decision": "approved"}
        control.post("/approve", json=body, headers=server.token).raise_for_status()
        other = tools.post("/execute", json=call("no", approval_id))
        first = tools.post("/execute", json=call("yes", approval_id))
        replay = tools.post("/execute", json=call("yes", approval_id))

    assert other.status_code == 403
    assert first.json()["data"]["status"] == "executed"
    assert replay.status_code == 409
    assert (server.folder / "workspace" / "note.txt").read_text() == "yes"


def test_an_approval_expires(start: Callable[..., Server], tmp_path: Path) -> None:
    brief = start(tmp_path, SONIA__SERVICES__EVA_OS__APPROVAL_TTL_S="0.2")
    call = {"tool_name": "file.write", "args": {"path": "late.txt", "content": "x"}}
    with brief.client() as client:
        action = client.post("/v1/action", json=call).json()["data"]
        outcome = _finished(client, action["action_id"])
        late = client.post(
            f"/v1/approvals/{action['approval_id']}/approve", json={}, headers=brief.token
        )
    brief.end()

    assert outcome["status"] == "denied"
    assert late.status_code == 409
    assert not (tmp_path / "workspace" / "late.txt").exists()


def test_the_ledger_holds_after_all_that(server: Server) -> None:
    with server.client("eva-os") as client:
        check = client.get("/audit/verify").json()["data"]

    assert check["ok"]
    assert check["entries"] > 0


# --- starting and stopping -----------------------------------------------------------------


def _lives(process: psutil.Process) -> bool:
    """A process that is dead and only waits for init to notice does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_start_after_start_leaves_nothing_behind(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    for _ in range(4):
        server = start(tmp_path)
        assert server.process is not None
        children = psutil.Process(server.process.pid).children(recursive=True)
        with server.client() as client:
            assert client.get("/healthz").status_code == 200
        ports = list(server.running.ports.values()) if server.running else []
        status, output = server.end(signal.SIGINT)
        assert status == 0, output
        assert not any(_lives(child) for child in children)
        for port in ports:
            with socket.socket() as free:
                free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                free.bind(("127.0.0.1", port))
    assert not (tmp_path / "data" / "run.json").exists()


def test_r19_a_port_in_use_is_named_with_its_holder(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = squatter.getsockname()[1]
        blocked = Server(tmp_path, SONIA__SERVICES__PIPECAT__PORT=str(port))
        with pytest.raises(AssertionError, match="did not start") as refused:
            blocked.start()

    assert f"Port {port} (pipecat)" in str(refused.value)
    assert f"pid {psutil.Process().pid}" in str(refused.value)
    assert blocked.process is not None
    assert blocked.process.returncode == 1
    assert not (tmp_path / "data").exists()


def test_r25_a_second_server_is_refused_and_a_killed_one_leaves_nothing_stale(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    first = start(tmp_path)
    second = Server(tmp_path)
    with pytest.raises(AssertionError, match="already running"):
        second.start()
    with first.client() as client:
        assert client.get("/healthz").status_code == 200
    first.end(signal.SIGKILL)

    third = start(tmp_path)
    status, _ = third.end()

    assert status == 0


def test_only_a_part_is_served_when_only_a_part_is_asked_for(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    part = start(tmp_path, "--only", "memory,router")

    assert part.running is not None
    assert set(part.running.ports) == {"memory-engine", "model-router"}
    with part.client("memory-engine") as client:
        assert client.get("/healthz").status_code == 200
        stored = client.post("/store", json={"type": "fact", "content": "Owls see at night."})
    assert stored.json()["data"]["content"] == "Owls see at night."
    part.end()


def test_a_signal_lets_a_running_answer_end(start: Callable[..., Server], tmp_path: Path) -> None:
    server = start(tmp_path)
    server.until_ready()
    body = {"text": "Count from one to twenty in words."}
    with (
        server.client() as client,
        client.stream("POST", "/v1/chat", json={**body, "stream": True}) as answer,
    ):
        names: list[str] = []
        for name, _ in events(answer):
            if name == "response.delta" and name not in names:  # it runs once it speaks
                assert server.process is not None
                server.process.send_signal(signal.SIGTERM)
            names.append(name)
    status, _ = server.end()

    assert names[-1] == "response.done"
    assert status == 0


# --- installed, and embedded -----------------------------------------------------------------


def test_a_wheel_serves_from_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path)]
    subprocess.run([*build, str(ROOT)], check=True, capture_output=True)
    (wheel,) = tmp_path.glob("sonia-*.whl")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    install = [*pip, "install", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    server = Server(tmp_path, PYTHONPATH=str(site))
    del server.environment["SONIA_CONFIG"]
    server.cwd = empty

    server.start()
    with server.client("memory-engine") as client:
        stored = client.post("/store", json={"type": "fact", "content": "Owls see at night."})
    status, _ = server.end()

    assert stored.status_code == 200
    assert status == 0
    assert list(empty.iterdir()) == []


async def test_the_same_modules_can_be_used_without_http(tmp_path: Path) -> None:
    config = parse(
        {
            "paths": {"data": str(tmp_path / "data")},
            "services": {"openclaw": {"workspace": str(tmp_path / "workspace")}},
        }
    )

    async with sonia.open(config) as s:
        outcome = await s.tools.execute(Call(tool_name="math.evaluate", args={"expression": "6*7"}))
        entry = await s.memory.store(NewMemory(type="fact", content="Owls see at night."))
        found = await s.memory.search(Query(query="owls", mode="text"))

    assert outcome.result is not None
    assert "42" in str(outcome.result)
    assert found.hits[0].entry.id == entry.id


@contextlib.contextmanager
def _holding(server: Server) -> Iterator[Iterator[tuple[str, dict[str, Any]]]]:
    """A streamed turn that waits for an approval."""
    text = "Write a file called todo.txt with the content: buy milk"
    body = {"text": text, "stream": True}
    with server.client() as client, client.stream("POST", "/v1/chat", json=body) as answer:
        told = events(answer)
        assert any(name == "approval.required" for name, _ in told)
        with contextlib.suppress(httpx.HTTPError):  # being cut off is what this is for
            yield told


def _until_refused(server: Server) -> None:
    assert server.running is not None
    address = ("127.0.0.1", server.running.ports["api-gateway"])
    with contextlib.suppress(ConnectionRefusedError, ConnectionResetError):
        while True:
            socket.create_connection(address, timeout=5).close()


def test_r20_a_turn_that_waits_is_cut_off_when_the_grace_is_over(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(tmp_path, SONIA__SHUTDOWN__GRACE_S="1")
    server.until_ready()

    with _holding(server):
        status, output = server.end(signal.SIGTERM)

    assert status == 0, output
    assert "Traceback" not in output


def test_r20_a_second_signal_does_not_wait_for_the_grace(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    server = start(tmp_path, SONIA__SHUTDOWN__GRACE_S="600")
    server.until_ready()

    with _holding(server):
        assert server.process is not None
        server.process.send_signal(signal.SIGTERM)
        _until_refused(server)
        status, output = server.end(signal.SIGTERM)

    assert status == 0, output
    assert "Traceback" not in output


def test_openais_client_talks_to_a_bare_model_and_to_the_assistant(server: Server) -> None:
    import openai

    model = "local/qwen2.5-coder-0.5b-instruct"
    asks: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
    with openai.OpenAI(base_url=f"{server.url()}/v1", api_key="none", max_retries=0) as client:
        bare = client.chat.completions.create(model=model, messages=asks)
        streamed = [
            chunk.choices[0].delta.content or ""
            for chunk in client.chat.completions.create(model=model, messages=asks, stream=True)
        ]
        client.chat.completions.create(
            model="sonia", messages=[{"role": "user", "content": "My canary is called Tweety."}]
        )
        asked = client.chat.completions.create(
            model="sonia", messages=[{"role": "user", "content": "What is my canary called?"}]
        )
        vectors = client.embeddings.create(model="local/all-minilm-l6-v2", input=["a", "b"])

    assert "Paris" in (bare.choices[0].message.content or "")
    assert "".join(streamed) == bare.choices[0].message.content
    assert asked.model == "sonia"
    assert "Tweety" in (asked.choices[0].message.content or "")
    assert [len(row.embedding) for row in vectors.data] == [384, 384]


def test_anthropics_client_and_responses_talk_to_the_local_model(server: Server) -> None:
    import anthropic
    import openai

    model, asks = "qwen2.5-coder-0.5b-instruct", "What is the capital of France?"
    tools: list[Any] = [
        {
            "name": "weather",
            "description": "The weather in a city",
            "input_schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        }
    ]
    with anthropic.Anthropic(base_url=server.url(), api_key="none", max_retries=0) as client:
        said = client.messages.create(
            model=model, max_tokens=40, messages=[{"role": "user", "content": asks}]
        )
        called = client.messages.create(
            model=model,
            max_tokens=60,
            messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
            tools=tools,
            tool_choice={"type": "any"},
        )
    with openai.OpenAI(base_url=f"{server.url()}/v1", api_key="none", max_retries=0) as client_:
        first = client_.responses.create(model=model, input=asks)
        second = client_.responses.create(
            model=model, input="And of Italy?", previous_response_id=first.id
        )

    assert said.content[0].type == "text"
    assert "Paris" in said.content[0].text
    assert called.content[0].type == "tool_use"
    assert isinstance(called.content[0].input["city"], str)
    assert "Paris" in first.output_text
    assert "Rome" in second.output_text
