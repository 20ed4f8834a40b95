"""`docs/operations.md` as a person follows it, on a Sonia of its own."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from sonia.db import connect
from sonia.running import read
from tests.disk_given import leave_free, resize, small_disk
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


def test_r05_a_damaged_row_is_named_by_the_check_and_by_the_status(
    start: Callable[..., Server],
) -> None:
    server = start(None, "--only", "gateway,memory,control")
    with server.client("memory-engine") as memory:
        for content in ("Owls see at night.", "Moles dig by day."):
            memory.post("/store", json={"type": "fact", "content": content})
    server.end()
    with closing(connect(server.data / "sonia.db")) as c:
        c.execute("UPDATE memory_entries SET content = 'Owls see nothing.' WHERE number = 1")

    offline = server.command("check")
    server.start()
    try:
        online = server.command("check")
        with server.client("memory-engine") as memory:
            found = memory.post("/search", json={"query": ""}).json()["data"]["hits"]
            status = memory.get("/status").json()
    finally:
        server.end()

    for done in (offline, online):
        assert done.returncode == 1, done.stderr
        assert "memory_entries 1: its SHA-256" in done.stdout
        assert "sonia backup restore" in done.stdout
    assert [hit["entry"]["content"] for hit in found] == ["Moles dig by day."]
    assert status["detail"]["damaged"] == 1


def test_r03_a_full_disk_is_told_and_reading_and_forgetting_go_on(
    start: Callable[..., Server], tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 128 * 1024 * 1024) as disk:
        server = start(
            tmp_path / "home",
            "--only",
            "gateway,memory,control",
            SONIA__PATHS__DATA=str(disk / "data"),
        )
        leave_free(disk, 4 * 1024 * 1024)
        try:
            _fill_and_free(server, disk)
        finally:
            server.end()


def _fill_and_free(server: Server, disk: Path) -> None:
    with server.client("memory-engine") as memory:
        kept = []
        while True:
            body = {"type": "fact", "content": f"Geese {len(kept)} " + "z" * 60_000}
            answer = memory.post("/store", json=body)
            if answer.status_code != 200:
                break
            kept.append(answer.json()["data"]["id"])
        assert answer.status_code == 507
        assert answer.json()["error"]["retryable"] is True
        assert memory.get(f"/recall/{kept[-1]}").status_code == 200
        assert memory.get("/status").json()["detail"]["storage"]["writable"] is False
        assert memory.get("/healthz").status_code == 200
        assert memory.delete(f"/recall/{kept[0]}").status_code == 200
        assert memory.get(f"/recall/{kept[0]}").status_code == 404

        resize(disk, 256 * 1024 * 1024)
        assert memory.post("/store", json=body).status_code == 200
        assert memory.post("/check").json()["data"]["ok"] is True
        assert memory.get("/status").json()["detail"]["storage"]["writable"] is True
