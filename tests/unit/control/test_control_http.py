"""Control over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from litestar import Litestar
from litestar.testing import AsyncTestClient

from sonia.control import Plan, open_operator, read_token
from sonia.control.http import routes
from sonia.control.service import SqliteControl
from sonia.envelope import exception_handlers
from sonia.errors import InvalidRequest, NotFound

MakePlan = Callable[..., Plan]
Client = AsyncTestClient[Litestar]
WRITE = {"tool_name": "file.write", "args": {"path": "a.txt", "text": "hello"}}

READ = {"tool_name": "file.read", "args": {"path": "a.txt"}}


class TwoTools:
    """A planner with one tool that reads and one that writes."""

    def __init__(self, make_plan: MakePlan) -> None:
        self._make_plan = make_plan

    async def plan(self, tool_name: str, args: dict[str, Any], **context: Any) -> Plan:
        tiers = {"file.read": 0, "file.write": 2}
        if tool_name not in tiers:
            raise NotFound(f"No tool {tool_name!r}. There are file.read and file.write.")
        if not set(args) <= {"path", "text"}:
            raise InvalidRequest("Only path and text are arguments.")
        return self._make_plan(tool=tool_name, arguments=args, tier=tiers[tool_name], **context)


@pytest_asyncio.fixture
async def client(
    control: SqliteControl, make_plan: MakePlan, tmp_path: Path
) -> AsyncIterator[Client]:
    control.plan_with(TwoTools(make_plan))
    app = Litestar(
        [routes(control, open_operator(tmp_path / "data"))],
        exception_handlers=exception_handlers(),
        openapi_config=None,
    )
    async with AsyncTestClient(app) as opened:
        yield opened


@pytest.fixture
def token(client: Client, tmp_path: Path) -> dict[str, str]:
    return {"authorization": f"Bearer {read_token(tmp_path / 'data').reveal()}"}


async def data(client: Client, path: str, body: dict[str, Any] | None = None) -> Any:
    """What a call that must succeed answers."""
    answer = await (client.get(path) if body is None else client.post(path, json=body))
    assert answer.status_code == 200, answer.text
    assert answer.json()["ok"] is True
    return answer.json()["data"]


async def test_reading_passes_the_gate_and_writing_asks(client: Client) -> None:
    read = await data(client, "/control/gate-tool-call", {"tool_name": "file.read", "args": {}})
    write = await data(client, "/control/gate-tool-call", WRITE)

    assert (read["verdict"], read["risk_tier"], read["approval_id"]) == ("approved", 0, None)
    assert (write["verdict"], write["risk_tier"]) == ("approval_required", 2)
    assert len(write["scope_hash"]) == 64
    assert write["expires_at"].endswith("Z")
    pending = await data(client, "/control/approvals?state=pending")
    assert [each["id"] for each in pending] == [write["approval_id"]]


@pytest.mark.parametrize(
    "call",
    [
        {"tool_name": "shell.rm", "args": {}},
        {"tool_name": "File.Write", "args": {}},
        {"tool_name": "FILE.READ", "args": {}},
        {"tool_name": "file.read ", "args": {}},
        {"tool_name": "", "args": {}},
        {"tool_name": "x" * 5_000, "args": {}},
        {"tool_name": "file.read\u0000", "args": {}},
        {"tool_name": "file.read", "args": {"path": "a", "mode": "root"}},
    ],
)
async def test_t16_an_unknown_tool_or_argument_is_denied(
    client: Client, call: dict[str, Any]
) -> None:
    decision = await data(client, "/control/gate-tool-call", call)

    assert (decision["verdict"], decision["risk_tier"]) == ("denied", 3)
    assert await data(client, "/control/approvals") == []
    kinds = [row["data"]["verdict"] for row in await data(client, "/control/audit")]
    assert kinds == ["denied"]


@pytest.mark.parametrize(
    "body",
    [
        WRITE | {"mode": "autonomous"},
        WRITE | {"tier": 0},
        WRITE | {"context": {"mode": "autonomous"}},
        WRITE | {"context": {"origins": ["root"]}},
        {"args": {}},
        {"tool_name": 1, "args": {}},
        {"tool_name": "file.read", "args": []},
        [],
        None,
    ],
)
async def test_t16_a_body_of_another_shape_is_refused(client: Client, body: Any) -> None:
    answer = await client.post("/control/gate-tool-call", json=body)

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_t01_the_gate_raises_what_came_from_outside(client: Client) -> None:
    body = WRITE | {"context": {"origins": ["model", "web"], "session_id": "ses_1"}}

    decision = await data(client, "/control/gate-tool-call", body)

    assert (decision["verdict"], decision["risk_tier"]) == ("approval_required", 3)


@pytest.mark.parametrize("header", [{}, {"authorization": "Bearer " + "0" * 64}])
async def test_t12_answering_and_changing_policy_need_the_operator(
    client: Client, tmp_path: Path, header: dict[str, str]
) -> None:
    asked = await data(client, "/control/gate-tool-call", WRITE)
    approval = {"approval_id": asked["approval_id"], "decision": "approved"}

    answers = [
        await client.post("/control/approve", json=approval, headers=header),
        await client.put("/control/policy", json={"rules": []}, headers=header),
    ]

    for answer in answers:
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "unauthorized"
        assert "operator.token" in answer.json()["error"]["message"]
        assert read_token(tmp_path / "data").reveal() not in answer.text
    found = await data(client, f"/control/approvals/{asked['approval_id']}")
    assert found["state"] == "pending"
    assert (await data(client, "/control/policy"))["version"] == 1


async def test_an_answer_counts_once(client: Client, token: dict[str, str]) -> None:
    asked = await data(client, "/control/gate-tool-call", WRITE)
    body = {"approval_id": asked["approval_id"], "decision": "denied", "reason": "no"}

    first = await client.post("/control/approve", json=body, headers=token)
    second = await client.post(
        "/control/approve", json=body | {"decision": "approved"}, headers=token
    )

    assert first.status_code == 200
    assert first.json()["data"]["state"] == "denied"
    assert second.status_code == 409
    assert second.json()["error"]["details"]["state"] == "denied"


async def test_t11_a_thousand_guessed_ids_approve_nothing(
    client: Client, control: SqliteControl, token: dict[str, str]
) -> None:
    asked = await data(client, "/control/gate-tool-call", WRITE)

    for guess in range(1_000):
        body = {"approval_id": f"apr_{guess:032x}", "decision": "approved"}
        answer = await client.post("/control/approve", json=body, headers=token)
        assert answer.status_code == 404

    assert (await control.approval(asked["approval_id"])).state == "pending"


async def test_policy_is_replaced_and_decides(client: Client, token: dict[str, str]) -> None:
    rules = [{"tool": "file.*", "verdict": "deny", "reason": "Not today."}]

    answer = await client.put("/control/policy", json={"rules": rules}, headers=token)

    assert answer.json()["data"] == {"version": 2, "rules": rules, "file_rules": []}
    decision = await data(client, "/control/gate-tool-call", WRITE)
    assert (decision["verdict"], decision["reason"]) == ("denied", "Not today.")


async def test_a_policy_that_could_never_match_is_refused(
    client: Client, token: dict[str, str]
) -> None:
    rules = [{"tool": "Shell.Run", "verdict": "deny"}]

    answer = await client.put("/control/policy", json={"rules": rules}, headers=token)

    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["pointer"] == "/rules/0/tool"


@pytest.mark.parametrize(
    "query",
    [
        "audit?limit=0",
        "audit?limit=1001",
        "audit?after=-1",
        "audit?after=99999999999999999999",
        "audit?limit=x",
        "approvals?state=maybe",
        "approvals?limit=0",
    ],
)
async def test_a_query_out_of_range_is_refused(client: Client, query: str) -> None:
    answer = await client.get(f"/control/{query}")

    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"


async def test_the_audit_is_read_in_pages_and_verified(client: Client) -> None:
    for _ in range(3):
        await data(client, "/control/gate-tool-call", {"tool_name": "file.read", "args": {}})

    page = await data(client, "/control/audit?after=1&limit=1")

    assert [row["number"] for row in page] == [2]
    assert page[0]["at"].endswith("Z")
    check = await data(client, "/control/audit/verify")
    assert (check["ok"], check["entries"]) == (True, 3)


async def test_everyones_health_is_one_call(client: Client, control: SqliteControl) -> None:
    control.watch("control", control.probe)

    health = await data(client, "/control/health/all")

    assert health["control"]["ok"] is True
    assert health["control"]["detail"]["policy_version"] == 1


async def test_an_unknown_approval_is_not_found(client: Client) -> None:
    answer = await client.get("/control/approvals/apr_nobody")

    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "not_found"


async def test_a_mode_is_set_by_the_operator_and_decides(
    client: Client, token: dict[str, str]
) -> None:
    refused = await client.put("/control/mode", json={"mode": "dictation"})
    unknown = await client.put("/control/mode", json={"mode": "root"}, headers=token)
    answer = await client.put("/control/mode", json={"mode": "dictation"}, headers=token)

    decision = await data(client, "/control/gate-tool-call", READ)
    assert (refused.status_code, unknown.status_code) == (401, 400)
    assert answer.json()["data"] == await data(client, "/control/mode") == {"mode": "dictation"}
    assert (decision["verdict"], decision["rule"]) == ("denied", "mode:dictation")


async def test_a_policy_is_explained_without_asking_or_recording(
    client: Client, control: SqliteControl
) -> None:
    body = WRITE | {"context": {"origins": ["model", "web"], "unattended": True}}

    explained = await data(client, "/control/policy/test", body)
    unknown = await data(client, "/control/policy/test", WRITE | {"tool_name": "File.Write"})

    assert (explained["verdict"], explained["risk_tier"]) == ("approval_required", 3)
    assert "came from outside" in explained["steps"][1]
    assert (unknown["verdict"], unknown["rule"]) == ("denied", "unknown-tool")
    assert await control.approvals() == await control.ledger() == ()


async def test_t11_the_code_is_shown_to_the_operator_and_opens_the_worst(
    client: Client, token: dict[str, str]
) -> None:
    body = WRITE | {"context": {"origins": ["web"], "session_id": "ses_1"}}
    name = (await data(client, "/control/gate-tool-call", body))["approval_id"]
    answer = {"approval_id": name, "decision": "approved"}

    hidden = await client.get(f"/control/approvals/{name}/code")
    without = await client.post("/control/approve", json=answer, headers=token)
    shown = await client.get(f"/control/approvals/{name}/code", headers=token)
    code = {"confirmation_code": shown.json()["data"]["confirmation_code"]}
    settled = await client.post("/control/approve", json=answer | code, headers=token)

    assert (hidden.status_code, without.status_code, settled.status_code) == (401, 403, 200)
    assert code["confirmation_code"] not in (await client.get("/control/approvals")).text


async def test_trust_is_given_listed_and_taken_back(client: Client, token: dict[str, str]) -> None:
    body = WRITE | {"context": {"session_id": "ses_1"}}
    name = (await data(client, "/control/gate-tool-call", body))["approval_id"]
    answer = {"approval_id": name, "decision": "approved", "trust": "session"}
    await client.post("/control/approve", json=answer, headers=token)

    allowed = await data(client, "/control/gate-tool-call", body)
    (given,) = await data(client, "/control/trust")
    refused = await client.delete(f"/control/trust/{given['id']}")
    left = await client.delete(f"/control/trust/{given['id']}", headers=token)
    asked = await data(client, "/control/gate-tool-call", body)

    assert (allowed["verdict"], allowed["rule"]) == ("approved", "trust")
    assert (given["tool"], given["kind"], given["approval_id"]) == ("file.write", "session", name)
    assert (refused.status_code, left.json()["data"]) == (401, [])
    assert asked["verdict"] == "approval_required"


async def test_maintenance_is_begun_by_the_operator_and_seen_by_everyone(
    client: Client, token: dict[str, str]
) -> None:
    without = await client.put("/control/maintenance", json={"on": True})
    begun = await client.put("/control/maintenance", json={"on": True}, headers=token)
    write = await data(client, "/control/gate-tool-call", WRITE)

    assert (without.status_code, begun.status_code) == (401, 200)
    assert (await data(client, "/control/maintenance"))["on"] is True
    assert (write["verdict"], write["rule"]) == ("denied", "maintenance")
