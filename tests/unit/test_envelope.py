"""Answers: one shape for every success and every failure, whoever raised it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from litestar import Litestar, get, post, put
from litestar.exceptions import HTTPException
from litestar.params import FromPath, JSONBody
from litestar.testing import TestClient

from sonia.envelope import Envelope, Exchange, answer, enter, exception_handlers, shown_path
from sonia.errors import (
    Conflict,
    InvalidRequest,
    PayloadTooLarge,
    RateLimited,
    SoniaError,
    StorageFull,
    UpstreamTimeout,
)
from sonia.log import open_logs
from sonia.types import Value

CANARY = "canary-of-the-cause"
RAISED: dict[str, Exception] = {
    "conflict": Conflict("Already answered.", approval_id="apr_1"),
    "limited": RateLimited("Too many at once.", retry_after_s=7),
    "large": PayloadTooLarge("Too large.", limit_bytes=10),
    "full": StorageFull("The disk is full."),
    "late": UpstreamTimeout("No answer in time."),
    "odd": Conflict("Odd.", where=Path("notes.txt")),
    "pointed": InvalidRequest("Too long.", pointer="/text"),
    "unknown": ValueError(CANARY),
    "deep": RecursionError(CANARY),
    "latin": UnicodeDecodeError("utf-8", b"\xff", 0, 1, CANARY),
    "teapot": HTTPException(status_code=418, detail="I am a teapot."),
    "away": HTTPException(status_code=503, detail="Not now."),
    "broken": HTTPException(status_code=500, detail=CANARY),
}


class Cat(Value):
    """A cat."""

    name: str
    lives: int = 9


@get("/cats")
async def cats() -> Envelope[list[Cat]]:
    return answer([Cat(name="Biscuit")])


@post("/cats", status_code=200)
async def add(data: JSONBody[Cat]) -> Envelope[Cat]:
    return answer(data)


@put("/cats/{name:str}")
async def rename(name: FromPath[str]) -> Envelope[str]:
    return answer(name)


@get("/raise/{what:str}")
async def fail(what: FromPath[str]) -> None:
    raise RAISED[what]


class Named:
    """The app, with each request named as the front door names them."""

    def __init__(self, app: Litestar) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        enter(Exchange(service="memory-engine", operation="asked", correlation_id="req_1"))
        await self._app(scope, receive, send)


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Path]:
    with open_logs(tmp_path, level="INFO", style="json") as services:
        yield services


@pytest.fixture
def client(logs: Path) -> Iterator[TestClient[Any]]:
    app = Litestar(
        [cats, add, rename, fail],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=None,
    )
    with TestClient(Named(app), raise_server_exceptions=False) as client:
        yield client


def test_a_success_has_the_whole_shape(client: TestClient[Any]) -> None:
    body = client.get("/cats").json()

    assert body.pop("duration_ms") >= 0
    assert body == {
        "ok": True,
        "service": "memory-engine",
        "operation": "asked",
        "correlation_id": "req_1",
        "data": [{"name": "Biscuit", "lives": 9}],
        "error": None,
    }


def test_a_failure_has_the_whole_shape(client: TestClient[Any]) -> None:
    response = client.get("/raise/conflict")
    body = response.json()

    assert response.status_code == 409
    assert response.headers["content-type"] == "application/json"
    assert body.pop("duration_ms") >= 0
    assert body == {
        "ok": False,
        "service": "memory-engine",
        "operation": "asked",
        "correlation_id": "req_1",
        "data": None,
        "error": {
            "code": "conflict",
            "message": "Already answered.",
            "details": {"approval_id": "apr_1"},
            "retryable": False,
        },
    }


@pytest.mark.parametrize(
    ("what", "status", "code", "retryable"),
    [
        ("limited", 429, "rate_limited", True),
        ("large", 413, "payload_too_large", False),
        ("full", 507, "unavailable", True),
        ("late", 504, "upstream_timeout", True),
        ("teapot", 400, "invalid_request", False),
        ("away", 503, "unavailable", True),
        ("unknown", 500, "internal", False),
        ("broken", 500, "internal", False),
        ("deep", 400, "invalid_request", False),
        ("latin", 400, "invalid_request", False),
    ],
)
def test_every_error_has_its_status_and_code_and_nothing_of_its_cause(
    what: str, status: int, code: str, retryable: bool, client: TestClient[Any]
) -> None:
    response = client.get(f"/raise/{what}")
    error = response.json()["error"]

    assert (response.status_code, error["code"], error["retryable"]) == (status, code, retryable)
    assert CANARY not in response.text


def test_the_cause_of_an_unknown_error_is_in_the_log_of_its_service(tmp_path: Path) -> None:
    app = Litestar([fail], exception_handlers=exception_handlers(), logging_config=None)

    with (
        open_logs(tmp_path, level="INFO", style="json") as services,
        TestClient(Named(app), raise_server_exceptions=False) as client,
    ):
        client.get("/raise/unknown")
        client.get("/raise/conflict")

    (line,) = map(json.loads, (services / "memory-engine.log").read_text().splitlines())
    assert (line["event"], line["path"]) == ("unhandled", "/raise/{what}")
    assert line["correlation_id"] == "req_1"
    assert CANARY in line["exception"]


def test_being_limited_says_when_to_come_back(client: TestClient[Any]) -> None:
    assert client.get("/raise/limited").headers["retry-after"] == "7"
    assert "retry-after" not in client.get("/raise/conflict").headers


def test_details_that_json_does_not_know_are_sent_as_text(client: TestClient[Any]) -> None:
    response = client.get("/raise/odd")

    assert response.status_code == 409
    assert response.json()["error"]["details"] == {"where": "notes.txt"}


def test_a_route_that_is_not_there_is_named(client: TestClient[Any]) -> None:
    response = client.get("/dogs")

    assert response.status_code == 404
    assert response.json()["error"]["code"] == "not_found"
    assert "GET /dogs" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [("DELETE", "/cats", ["GET", "POST"]), ("GET", "/cats/biscuit", ["PUT"])],
)
def test_a_method_that_is_not_there_is_answered_with_those_that_are(
    method: str, path: str, allowed: list[str], client: TestClient[Any]
) -> None:
    response = client.request(method, path)
    message = response.json()["error"]["message"]

    assert response.status_code == 405
    assert f"{method} is not possible on {path}" in message
    assert f"Use {' or '.join(allowed)}." in message
    assert set(allowed) <= set(response.headers["allow"].split(", "))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"name": "x", "wings": 2}', "wings"),
        (b'{"name": 3}', "name"),
        (b"{}", "name"),
        (b'{"name": ', ""),
        (b'{"name": "\xff"}', ""),
        (b'{"name": ' + b"[" * 100_000, ""),
        (b"", ""),
    ],
    ids=["unknown field", "wrong type", "missing", "cut", "not utf-8", "deep", "empty"],
)
def test_a_body_that_is_wrong_is_the_callers_to_change(
    body: bytes, said: str, client: TestClient[Any]
) -> None:
    response = client.post("/cats", content=body, headers={"content-type": "application/json"})
    answered = response.json()

    assert response.status_code == 400
    assert (answered["ok"], answered["data"]) == (False, None)
    assert answered["error"]["code"] == "invalid_request"
    assert answered["error"]["message"]
    assert said in answered["error"]["message"]


# --- problem details -------------------------------------------------------------------------


def problem(client: TestClient[Any], what: str) -> dict[str, Any]:
    response = client.get(f"/raise/{what}", headers={"accept": "application/problem+json"})
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == response.status_code
    return body


def test_a_client_that_asks_for_problem_details_gets_them(client: TestClient[Any]) -> None:
    assert problem(client, "conflict") == {
        "type": "urn:sonia:problem:conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "Already answered.",
        "instance": "urn:sonia:request:req_1",
        "code": "conflict",
        "correlation_id": "req_1",
        "service": "memory-engine",
    }


def test_problem_details_say_when_to_come_back_and_which_field(
    client: TestClient[Any],
) -> None:
    assert problem(client, "limited")["retry_after"] == 7
    assert problem(client, "pointed")["errors"] == [{"pointer": "/text", "detail": "Too long."}]


def test_problem_details_hold_nothing_of_an_unknown_cause(client: TestClient[Any]) -> None:
    assert CANARY not in json.dumps(problem(client, "unknown"))


def test_every_error_of_the_tree_is_in_the_contract() -> None:
    contract = {
        "invalid_request": 400,
        "unauthorized": 401,
        "forbidden": 403,
        "policy_denied": 403,
        "not_found": 404,
        "conflict": 409,
        "payload_too_large": 413,
        "rate_limited": 429,
        "internal": 500,
        "upstream_error": 502,
        "unavailable": 503,
        "upstream_timeout": 504,
    }

    own = [kind for kind in SoniaError.__subclasses__() if kind.__module__ == "sonia.errors"]

    assert {kind.code: kind.status for kind in own} == contract


@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        ({"path": "/v1/Biscuit"}, "/v1/…"),
        ({"path": "/Biscuit"}, "/…"),
        ({"path": "/"}, "/…"),
        (
            {
                "path": "/memory/v1/search/entity/Biscuit",
                "path_template": "/memory/v1/search/entity/{name}",
                "path_params": {"name": "Biscuit"},
            },
            "/memory/v1/search/entity/{name}",
        ),
        (
            {
                "path": "/memory/recall/mem_" + "0a" * 16,
                "path_template": "/memory/recall/{memory_id}",
                "path_params": {"memory_id": "mem_" + "0a" * 16},
            },
            "/memory/recall/mem_" + "0a" * 16,
        ),
    ],
)
def test_a_log_line_shows_the_route_and_no_word_of_the_caller(
    scope: dict[str, Any], shown: str
) -> None:
    assert shown_path(scope) == shown
