"""A word goes through everything that a running Sonia keeps, and is forgotten."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import Server

WORD = "Xylographer"
STEM = b"xylograph"


def residue(folder: Path) -> list[str]:
    return [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*"))
        if path.is_file() and STEM in path.read_bytes().lower()
    ]


@pytest.mark.timeout(300)
def test_nothing_of_it_is_left_in_data_or_logs(start: Callable[..., Server]) -> None:
    server = start()
    server.until_ready()
    with server.client() as gateway, server.client("memory-engine") as memory:
        said = gateway.post("/v1/chat", json={"text": f"My neighbour is a {WORD} from Faro."})
        assert said.status_code == 200, said.text
        session = said.json()["data"]["session_id"]
        body = {"type": "fact", "content": f"{WORD} Street is closed", "session_id": session}
        assert memory.post("/store", json=body).status_code == 200
        assert memory.post("/search", json={"query": WORD}).json()["data"]["hits"]
        assert memory.post("/search", json={"query": WORD, WORD: 1}).status_code == 400
        assert memory.post("/store", content=f'{{"{WORD}').status_code == 400
        assert gateway.post("/v1/chat", json={"text": WORD, "model": WORD}).status_code >= 400
        assert memory.get(f"/recall/mem_{WORD}").status_code == 404
        action = {
            "tool_name": "file.write",
            "args": {"path": "a.txt", "content": WORD},
            "session_id": session,
        }
        assert gateway.post("/v1/action", json=action).status_code == 202
        snapshot = memory.post("/v1/snapshots/create", json={"session_id": session})
        assert snapshot.json()["data"]["memories"] >= 1
        assert any(name.startswith("data/") for name in residue(server.folder))
        assert not any(name.startswith("logs/") for name in residue(server.folder))

        receipt = memory.post("/v1/forget", json={"entity": WORD.lower()}).json()["data"]
        while receipt["state"] != "done":
            receipt = memory.get(f"/v1/forget/{receipt['id']}").json()["data"]

        assert residue(server.folder) == []
        assert receipt["erased"]["memories"] >= 1
        assert memory.post("/search", json={"query": WORD}).status_code == 200
        with server.client("eva-os") as control:
            assert control.get("/audit/verify").json()["data"]["ok"]

    code, printed = server.end()

    assert (code, WORD in printed) == (0, False)
    assert residue(server.folder) == []
