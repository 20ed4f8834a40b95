"""The documents' routes: forms and JSON, over a real database, without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar

from sonia.envelope import exception_handlers
from sonia.memory.http import routes
from sonia.tools import Workspace
from tests.memory_given import opened

INGEST = "/memory/v1/workspace/ingest"
TEXT = "Tomatoes want sun."


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    workspace = Workspace(tmp_path / "workspace", 1000)
    workspace.prepare()
    async with opened(tmp_path) as memory:
        app = Litestar(
            [routes(memory, memory, workspace)],
            exception_handlers=exception_handlers(),
            request_max_body_size=None,
        )
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://sonia") as client:
            yield client


def data_of(response: httpx.Response) -> Any:
    body = response.json()
    assert (response.status_code, body["ok"]) == (200, True), body
    return body["data"]


@pytest.mark.parametrize("root", ["/memory/v1/workspace", "/memory/api/v1/workspace"])
async def test_a_document_goes_round(client: httpx.AsyncClient, root: str) -> None:
    made = data_of(
        await client.post(
            f"{root}/ingest",
            files={"file": ("plants.md", f"# Bed\n\n{TEXT}".encode())},
            data={"source": "plants.md", "user_id": "ada", "mine": "true"},
        )
    )
    path = f"{root}/documents/{made['document']['id']}"

    told = data_of(await client.get(path))
    assert (told["title"], told["origin"], told["user_id"]) == ("Bed", "owner", "ada")
    assert data_of(await client.get(f"{root}/documents?user_id=ada"))[0]["id"] == told["id"]
    (chunk,) = data_of(await client.get(f"{path}/chunks"))
    assert chunk["content"] == f"# Bed\n\n{TEXT}"
    assert data_of(await client.delete(path))["erased"] == {"documents": 1, "chunks": 1}
    assert (await client.get(path)).status_code == 404


async def test_text_is_sent_as_json_and_the_second_time_it_is_there(
    client: httpx.AsyncClient,
) -> None:
    first = data_of(await client.post(INGEST, json={"content": TEXT, "title": "Plants"}))
    second = data_of(await client.post(INGEST, json={"content": TEXT}))

    assert (first["created"], second["created"]) == (True, False)
    assert second["document"]["title"] == "Plants"


async def test_a_file_of_the_workspace_is_read_and_superseded(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    file = tmp_path / "workspace/plants.txt"
    file.write_text(TEXT)
    first = data_of(await client.post(INGEST, json={"path": "plants.txt"}))
    file.write_text("Tomatoes want water.")

    second = data_of(await client.post(INGEST, json={"path": "plants.txt"}))

    assert second["supersedes"] == first["document"]["id"]
    assert second["document"]["source"] == "plants.txt"


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "either content"),
        ({"content": "a", "path": "b"}, 400, "either content"),
        ({"content": ""}, 400, "empty"),
        ({"content": "a", "origin": "owner"}, 400, "origin"),
        ({"content": 1}, 400, "content"),
        ({"path": "../etc/passwd"}, 400, ".."),
        ({"path": "/etc/passwd"}, 400, "absolute"),
        ({"path": "missing.txt"}, 404, "no missing.txt"),
        ({"content": "x" * (8 * 1024 * 1024)}, 413, "multipart"),
    ],
)
async def test_json_that_is_wrong_is_told_what_would_be_right(
    client: httpx.AsyncClient, body: dict[str, Any], status: int, word: str
) -> None:
    refused = await client.post(INGEST, json=body)

    assert refused.status_code == status
    assert word in refused.json()["error"]["message"]
    assert data_of(await client.get("/memory/v1/workspace/documents")) == []


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({"files": {"other": ("a.txt", b"x")}}, "field 'file'"),
        ({"files": [("file", ("a", b"x")), ("file", ("b", b"y"))]}, "one file"),
        ({"files": {"file": ("a", b"x")}, "data": {"origin": "owner"}}, "origin"),
        ({"files": {"file": ("a", b"x")}, "data": {"mine": "perhaps"}}, "mine"),
        ({"files": {"file": ("a", b"x")}, "data": {"title": "t" * 9000}}, "8192"),
        (
            {
                "content": b"--b\r\nnonsense",
                "headers": {"content-type": "multipart/form-data; boundary=b"},
            },
            "form",
        ),
        ({"content": b"--b", "headers": {"content-type": "multipart/form-data"}}, "boundary"),
    ],
)
async def test_a_form_that_is_wrong_is_told_what_would_be_right(
    client: httpx.AsyncClient, form: dict[str, Any], word: str
) -> None:
    refused = await client.post(INGEST, **form)

    assert refused.status_code == 400
    assert word in refused.json()["error"]["message"]
    assert data_of(await client.get("/memory/v1/workspace/documents")) == []
