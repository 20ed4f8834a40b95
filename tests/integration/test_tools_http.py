"""The routes of the tools, through a real Litestar app."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from sonia.config import EvaOs, OpenClaw
from sonia.control import open_control, open_operator, read_token
from sonia.db import open_database
from sonia.envelope import exception_handlers
from sonia.tools import open_tools, routes

MIGRATIONS = Path(__file__).parents[2] / "migrations"


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[AsyncTestClient[Litestar]]:
    async with (
        open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
        open_tools(OpenClaw(), control, db, tmp_path / "workspace") as tools,
    ):
        operator = await asyncio.to_thread(open_operator, tmp_path / "data")
        app = Litestar([routes(tools, operator)], exception_handlers=exception_handlers())
        async with AsyncTestClient(app) as opened:
            yield opened


async def execute(client: AsyncTestClient[Litestar], **body: Any) -> tuple[int, Any]:
    answer = await client.post("/tools/execute", json=body)
    return answer.status_code, answer.json()


async def test_the_catalogue_says_what_each_tool_takes(client: AsyncTestClient[Litestar]) -> None:
    answer = (await client.get("/tools/tools")).json()

    tools = {tool["name"]: tool for tool in answer["data"]["tools"]}
    assert sorted(tools) == [
        "browser.open", "file.delete", "file.list", "file.read", "file.search", "file.write",
        "math.evaluate", "notification.send", "process.list", "shell.run", "system.info",
        "web.fetch", "web.search",
    ]  # fmt: skip
    assert tools["file.write"]["risk_tier"] == 2
    for tool in tools.values():
        schema = tool["arguments"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
        assert "$ref" not in str(schema)


async def test_one_tool_is_found_by_name_and_by_alias(client: AsyncTestClient[Litestar]) -> None:
    named = (await client.get("/tools/tools/shell.run")).json()["data"]
    aliased = (await client.get("/tools/tools/shell.run_command")).json()["data"]

    assert named == aliased
    assert named["timeout_ms"] == 30_000
    assert (await client.get("/tools/tools/Shell.Run")).status_code == 404


async def test_an_allowed_call_answers_200_with_its_result(
    client: AsyncTestClient[Litestar],
) -> None:
    status, answer = await execute(
        client, tool_name="math.evaluate", args={"expression": "17 * 23"}
    )

    assert status == 200
    assert answer["ok"] is True
    assert answer["data"]["status"] == "executed"
    assert answer["data"]["result"]["value"] == 391


async def test_a_call_that_has_to_be_asked_about_answers_202(
    client: AsyncTestClient[Litestar],
) -> None:
    status, answer = await execute(client, tool_name="shell.run", args={"command": "touch a"})

    data = answer["data"]
    assert status == 202
    assert data["status"] == "approval_required"
    assert data["approval_id"]
    assert data["expires_at"]
    assert "touch a" in data["preview"]


async def test_a_dry_run_answers_what_would_become_of_it(client: AsyncTestClient[Litestar]) -> None:
    status, answer = await execute(
        client, tool_name="shell.run", args={"command": "touch a"}, dry_run=True
    )

    assert status == 202
    assert answer["data"]["approval_id"] is None
    assert answer["data"]["result"] == {"dry_run": True}


@pytest.mark.parametrize(
    ("body", "status", "code", "says"),
    [
        ({"tool_name": "Shell.Run"}, 404, "not_found", "Did you mean 'shell.run'"),
        ({"tool_name": "file.read"}, 400, "invalid_request", "'path' is missing"),
        ({"tool_name": "file.list", "args": {"x": 1}}, 400, "invalid_request", "'x'"),
        ({"tool_name": "file.list", "args": {"path": ".."}}, 400, "invalid_request", "'..'"),
        ({"tool_name": "file.list", "args": []}, 400, "invalid_request", "args"),
        ({"tool_name": "file.list", "mode": "off"}, 400, "invalid_request", "mode"),
        ({"tool_name": "file.list", "timeout_ms": 0}, 400, "invalid_request", "timeout_ms"),
        ({"args": {}}, 400, "invalid_request", "tool_name"),
        (
            {"tool_name": "shell.run", "args": {"command": "Get-ChildItem"}},
            400,
            "invalid_request",
            "This host's shell is /bin/sh (Linux).",
        ),
        (
            {"tool_name": "shell.run", "args": {"command": "ls"}, "approval_id": "apr_guess"},
            404,
            "not_found",
            "approval",
        ),
    ],
)
async def test_a_wrong_call_says_what_would_be_right(
    client: AsyncTestClient[Litestar], body: dict[str, Any], status: int, code: str, says: str
) -> None:
    got, answer = await execute(client, **body)

    assert (got, answer["error"]["code"]) == (status, code)
    assert says in answer["error"]["message"]


async def test_what_was_done_is_counted_and_listed_newest_first(
    client: AsyncTestClient[Litestar],
) -> None:
    await execute(client, tool_name="file.list")
    await execute(client, tool_name="shell.run", args={"command": "touch a"})

    stats = (await client.get("/tools/registry/stats")).json()["data"]
    log = (await client.get("/tools/logs/execution?limit=1")).json()["data"]["actions"]

    tools = (await client.get("/tools/tools")).json()["data"]["tools"]
    assert stats["tools"] == len(tools) == sum(stats["by_tier"].values())
    assert stats["by_tier"]["0"] == len([tool for tool in tools if tool["risk_tier"] == 0])
    assert stats["by_status"] == {"executed": 1, "approval_required": 1}
    assert [action["tool"] for action in log] == ["shell.run"]
    for limit in ("0", "1001", "x"):
        assert (await client.get(f"/tools/logs/execution?limit={limit}")).status_code == 400


async def test_undoing_needs_the_operators_token(
    client: AsyncTestClient[Litestar], tmp_path: Path
) -> None:
    token = (await asyncio.to_thread(read_token, tmp_path / "data")).reveal()

    bare = await client.post("/tools/undo/act_none")
    named = await client.post("/tools/undo/act_none", headers={"Authorization": f"Bearer {token}"})

    assert bare.status_code == 401
    assert named.status_code == 404
