"""`docs/operations.md` as a person follows it, on a Sonia of its own."""

from __future__ import annotations

import re
from collections.abc import Callable

from sonia.running import read
from tests.e2e.conftest import ROOT, Server


def test_backups_are_made_checked_and_restored_as_the_document_says(
    start: Callable[..., Server],
) -> None:
    server = start(None, "--only", "gateway,memory,control")
    with server.client("memory-engine") as memory:
        stored = memory.post("/store", json={"type": "fact", "content": "Owls see at night."})
        memory_id = stored.json()["data"]["id"]
    with server.client() as gateway:
        assert gateway.get("/v1/backups").status_code == 401
        text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
        commands = [line.split() for line in re.findall(r"^    python3 -m sonia (.+)$", text, re.M)]
        said = {}
        for words in commands[:3]:
            done = server.command(*words)
            assert done.returncode == 0, done.stderr
            said[words[1]] = done.stdout
        (listed,) = gateway.get("/v1/backups", headers=server.token).json()["data"]
        again = gateway.post(f"/v1/backups/{listed['name']}/verify", headers=server.token)
        assert again.json()["data"]["ok"] is True
    with server.client("memory-engine") as memory:
        memory.post("/store", json={"type": "fact", "content": "This came later."})
        refused = server.command("backup", "restore", listed["name"])

    assert [words[:2] for words in commands[:3]] == [
        ["backup", "create"],
        ["backup", "list"],
        ["backup", "verify"],
    ]
    assert listed["name"] in said["create"]
    assert listed["name"] in said["list"]
    assert "whole" in said["verify"]
    assert refused.returncode == 1
    assert "sonia stop" in refused.stderr

    assert commands[3] == ["stop"]
    assert server.command("stop").returncode == 0
    server.end()
    assert commands[4][:2] == ["backup", "restore"]
    restored = server.command("backup", "restore", listed["name"])
    checked = server.command("check")
    server.start()
    try:
        online = server.command("check")
        with server.client("memory-engine") as memory:
            assert memory.get(f"/recall/{memory_id}").status_code == 200
            assert memory.get("/query/stats").json()["data"]["memories"] == 1
    finally:
        server.end()

    assert restored.returncode == 0, restored.stderr
    assert "is the database now" in restored.stdout
    for done in (checked, online):
        assert done.returncode == 0, done.stdout + done.stderr
        assert "All is what was written" in done.stdout
        assert "control_ledger" in done.stdout
    assert read(server.data) is None
