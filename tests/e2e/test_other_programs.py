"""Sonia as other programs see her: the real command, the official MCP client, work for later."""

from __future__ import annotations

import asyncio
import json

from mcp import Client

from tests.e2e.conftest import Server


def test_another_program_lists_and_calls_her_tools(server: Server) -> None:
    async def ask() -> tuple[list[str], object]:
        async with Client(f"{server.url()}/mcp") as client:
            listed = [tool.name for tool in (await client.list_tools()).tools]
            called = await client.call_tool("math.evaluate", {"expression": "17 * 23"})
        return listed, called.structured_content

    listed, result = asyncio.run(ask())

    assert {"math.evaluate", "file.write", "memory.search", "memory.remember"} <= set(listed)
    assert isinstance(result, dict)
    assert result["value"] == 391


def test_work_for_later_is_planned_and_taken_back_at_the_terminal(server: Server) -> None:
    added = server.command("tasks", "add", "every weekday at eight, read me my notes")
    task_id = added.stdout.split()[0]
    listed = server.command("tasks")
    removed = server.command("tasks", "remove", task_id)
    after = server.command("tasks")

    assert added.returncode == listed.returncode == removed.returncode == 0
    assert "0 8 * * mon-fri" in added.stdout
    assert task_id in listed.stdout
    assert task_id not in after.stdout


def test_the_record_is_copied_and_its_head_is_still_in_it_later(server: Server) -> None:
    server.command("tasks", "add", "--remind", "call Ana, in 2 hours")
    copied = server.command("audit", "export", "-")
    last = json.loads(copied.stdout.splitlines()[-1])
    server.command("tasks", "add", "--remind", "call Ana again, in 3 hours")

    verified = server.command("audit", "verify", "--head", last["head"])

    assert last["ok"] is True
    assert last["entries"] == len(copied.stdout.splitlines()) - 1
    assert verified.returncode == 0, verified.stderr
