"""Tasks over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import AsyncTestClient

from sonia.control import open_operator, open_tasks
from sonia.control.http import routes
from sonia.control.service import SqliteControl
from sonia.db import Database
from sonia.envelope import exception_handlers
from sonia.events import Bus

Client = AsyncTestClient[Litestar]


@pytest.fixture
async def client(control: SqliteControl, db: Database, tmp_path: Path) -> AsyncIterator[Client]:
    async with open_tasks(db, Bus()) as tasks:
        app = Litestar(
            [routes(control, open_operator(tmp_path / "data"), tasks)],
            exception_handlers=exception_handlers(),
            openapi_config=None,
        )
        async with AsyncTestClient(app) as opened:
            yield opened


async def test_a_task_is_added_listed_shown_and_removed(client: Client) -> None:
    body = {"text": "read me my notes", "when": {"cron": "0 8 * * 1-5"}}

    added = await client.post("/control/tasks", json=body)
    task = added.json()["data"]
    listed = (await client.get("/control/tasks?kind=turn")).json()["data"]
    shown = (await client.get(f"/control/tasks/{task['id']}")).json()["data"]
    removed = await client.delete(f"/control/tasks/{task['id']}")

    assert added.status_code == 201
    assert listed == [task]
    assert shown["schedule"] == {"cron": "0 8 * * 1-5"}
    assert removed.status_code == 200
    assert (await client.get(f"/control/tasks/{task['id']}")).status_code == 404


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"text": "read my notes"}, "Say when"),
        ({"text": "x", "when": "soonish"}, "'in 20 minutes'"),
        ({"text": "x", "when": {"cron": "* *"}}, "cron"),
        ({"text": "x", "when": {"every_s": 5}}, "every_s"),
        ({"text": "x", "when": {}}, "exactly one"),
        ({"text": "x", "when": "in 5 minutes", "often": True}, "often"),
    ],
)
async def test_a_task_that_is_wrong_says_what_would_be_right(
    client: Client, body: dict[str, object], says: str
) -> None:
    answer = await client.post("/control/tasks", json=body)

    assert answer.status_code == 400
    assert says in answer.json()["error"]["message"]
