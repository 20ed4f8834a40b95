"""The front door, over a bare ASGI app that tells what reached it."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from sonia.errors import PayloadTooLarge
from sonia.gateway import Doorway, FrontDoor
from sonia.gateway.receiving import ReceiveTimeout
from sonia.intake import Intake

GATEWAY = Doorway(service="api-gateway", prefix="", segments=frozenset({"v1", "healthz"}))
MEMORY = Doorway(
    service="memory-engine", prefix="/memory", segments=frozenset({"store", "healthz", ""})
)
TOOLS = Doorway(
    service="openclaw", prefix="/tools", segments=frozenset({"tools", "execute", "healthz", ""})
)
PORTS = {7000: GATEWAY, 7020: MEMORY, 7040: TOOLS}


UPLOADS = Intake(media_types=("multipart/form-data",), max_body_bytes=3000, idle_timeout_s=0.05)


class Reached:
    """The app behind the door: keeps what it saw."""

    def __init__(self) -> None:
        self.path: str | None = None
        self.body = b""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.path = scope["path"]
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        message = await receive()
        self.body = message.get("body", b"")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


class Knock:
    """One request to the door, and what came back."""

    def __init__(self, door: FrontDoor) -> None:
        self.door = door
        self.sent: list[dict[str, Any]] = []

    async def __call__(
        self,
        path: str = "/v1/chat",
        *,
        port: int = 7000,
        kind: str = "http",
        method: str = "POST",
        headers: list[tuple[str, str]] | None = None,
        chunks: list[bytes] | None = None,
    ) -> Knock:
        given = headers or []
        if not any(name == "host" for name, _ in given):
            given = [("host", f"localhost:{port}"), *given]
        scope = {
            "type": kind,
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "server": ("127.0.0.1", port),
            "headers": [(name.encode(), value.encode()) for name, value in given],
            "extensions": {"websocket.http.response": {}},
        }
        silent = any(name == "content-length" for name, _ in given) and not chunks
        waiting = list(chunks or ([] if silent else [b""]))

        async def receive() -> dict[str, Any]:
            if waiting:
                body = waiting.pop(0)
                return {"type": "http.request", "body": body, "more_body": bool(waiting)}
            await asyncio.Event().wait()
            raise AssertionError

        async def send(message: dict[str, Any]) -> None:
            self.sent.append(message)

        await self.door(scope, receive, send)
        return self

    @property
    def status(self) -> int:
        first = self.sent[0]
        return 101 if first["type"] == "websocket.accept" else int(first["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.sent[0]["headers"]}

    @property
    def error(self) -> dict[str, Any]:
        decoded: dict[str, Any] = msgspec.json.decode(self.sent[1]["body"])["error"]
        return decoded


@pytest.fixture
def reached() -> Reached:
    return Reached()


@pytest.fixture
def knock(reached: Reached) -> Knock:
    door = FrontDoor(
        reached,
        ports=PORTS,
        doorways=PORTS.values(),
        max_body_bytes=1000,
        receive_timeout_s=0.05,
        hosts=(),
        origins=("https://desk.example",),
    )
    return Knock(door)


JSON = ("content-type", "application/json")
HOSTS = [
    ("localhost:7000", True),
    ("127.0.0.1:7000", True),
    ("LOCALHOST:7000", True),
    ("[::1]:7000", True),
    ("localhost", False),
    ("localhost:7001", False),
    ("evil.example", False),
    ("evil.example:7000", False),
    ("localhost.evil.example:7000", False),
    ("127.0.0.1.nip.io:7000", False),
    ("127.1:7000", False),
    ("0.0.0.0:7000", False),
    ("localhost:7000@evil.example", False),
    ("", False),
]


@pytest.mark.parametrize(("host", "let_in"), HOSTS)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_t33_only_our_own_host_names_are_let_in(
    knock: Knock, reached: Reached, host: str, let_in: bool, kind: str
) -> None:
    await knock(kind=kind, method="GET", headers=[("host", host)])

    assert (reached.path is not None) == let_in
    assert knock.status == (403 if not let_in else 200 if kind == "http" else 101)


async def test_t33_two_host_headers_are_refused(knock: Knock, reached: Reached) -> None:
    await knock(headers=[("host", "localhost:7000"), ("host", "localhost:7000")])

    assert (knock.status, reached.path) == (403, None)


FOREIGN = [
    [("origin", "http://evil.example")],
    [("origin", "null")],
    [("origin", "http://localhost:7000.evil.example")],
    [("origin", "http://localhost:9999")],
    [("origin", "https://localhost:7000")],
    [("origin", "http://localhost:7000"), ("origin", "http://evil.example")],
    [("sec-fetch-site", "cross-site")],
    [("sec-fetch-site", "same-site")],
]


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("kind", ["http", "websocket"])
async def test_t35_pages_from_elsewhere_are_refused_before_any_route(
    knock: Knock, reached: Reached, headers: list[tuple[str, str]], kind: str
) -> None:
    await knock(kind=kind, headers=headers)

    assert (knock.status, reached.path) == (403, None)


@pytest.mark.parametrize(
    "origin", ["http://localhost:7000", "http://127.0.0.1:7040", "https://desk.example"]
)
async def test_our_own_pages_and_configured_ones_are_let_in(
    knock: Knock, reached: Reached, origin: str
) -> None:
    await knock(method="GET", headers=[("origin", origin), ("sec-fetch-site", "same-origin")])

    assert reached.path == "/v1/chat"


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "text/json"],
)
async def test_t34_a_body_that_a_form_could_send_is_refused(
    knock: Knock, reached: Reached, content_type: str
) -> None:
    given = [("content-length", "2"), ("content-type", content_type)]

    await knock(headers=given, chunks=[b"{}"])

    assert (knock.status, reached.path) == (400, None)
    assert "application/json" in knock.error["message"]


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON; charset=utf-8"])
async def test_json_is_let_in(knock: Knock, reached: Reached, content_type: str) -> None:
    given = [("content-length", "2"), ("content-type", content_type)]

    await knock(headers=given, chunks=[b"{", b"}"])

    assert (knock.status, reached.body) == (200, b"{}")


async def test_a_body_announced_over_the_limit_is_refused(knock: Knock, reached: Reached) -> None:
    await knock(headers=[("content-length", "1001"), JSON], chunks=[b"x" * 600, b"x" * 401])

    assert (knock.status, reached.path) == (413, None)
    assert knock.error["details"] == {"limit_bytes": 1000}


async def test_a_body_that_grows_over_the_limit_is_refused(knock: Knock, reached: Reached) -> None:
    given = [("transfer-encoding", "chunked"), JSON]

    await knock(headers=given, chunks=[b"x" * 600, b"x" * 600])

    assert (knock.status, reached.path) == (413, None)


async def test_r18_a_body_that_never_arrives_is_given_up(knock: Knock, reached: Reached) -> None:
    await knock(headers=[("content-length", "10"), JSON], chunks=[])

    assert (knock.status, reached.path) == (408, None)


PATHS = [
    (7000, "/v1/chat", "/v1/chat", "api-gateway"),
    (7000, "/memory/healthz", "/memory/healthz", "memory-engine"),
    (7020, "/healthz", "/memory/healthz", "memory-engine"),
    (7020, "/", "/memory/", "memory-engine"),
    (7020, "/memory/store", "/memory/store", "memory-engine"),
    (7020, "/tools/execute", "/tools/execute", "openclaw"),
    (7040, "/tools", "/tools/tools", "openclaw"),
    (7040, "/tools/file.read", "/tools/tools/file.read", "openclaw"),
    (7040, "/tools/tools", "/tools/tools", "openclaw"),
    (7040, "/tools/healthz", "/tools/healthz", "openclaw"),
    (7040, "/memory/healthz", "/memory/healthz", "memory-engine"),
]


@pytest.mark.parametrize(("port", "asked", "reaches", "service"), PATHS)
async def test_a_port_shows_its_own_routes_at_its_root_and_every_prefix(
    knock: Knock, reached: Reached, port: int, asked: str, reaches: str, service: str
) -> None:
    await knock(asked, port=port, method="GET")

    assert reached.path == reaches


async def test_a_refusal_names_the_service_and_the_given_correlation_id(knock: Knock) -> None:
    headers = [("x-correlation-id", "abc-1"), ("origin", "http://evil.example")]

    await knock("/healthz", port=7020, headers=headers)

    body = msgspec.json.decode(knock.sent[1]["body"])
    assert (body["service"], body["correlation_id"]) == ("memory-engine", "abc-1")
    assert knock.headers["x-correlation-id"] == "abc-1"


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, "caf\u00e9", "a\tb"])
async def test_a_correlation_id_that_is_not_visible_ascii_is_replaced(
    knock: Knock, given: str
) -> None:
    await knock(method="GET", headers=[("x-correlation-id", given)])

    assert knock.headers["x-correlation-id"].startswith("req_")


async def test_problem_details_are_given_to_those_who_ask_for_them(knock: Knock) -> None:
    headers = [("origin", "http://evil.example"), ("accept", "application/problem+json")]

    await knock(headers=headers)

    body = msgspec.json.decode(knock.sent[1]["body"])
    assert knock.headers["content-type"] == "application/problem+json"
    assert (body["status"], body["code"]) == (403, "forbidden")


# --- uploads -----------------------------------------------------------------------------

FORM = ("content-type", "multipart/form-data; boundary=b")


class Uploading:
    """An app that reads its body to the end, as one that takes an upload does."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        more = True
        while more:
            message = await receive()
            self.pieces.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})


@pytest.fixture
def uploading() -> Uploading:
    return Uploading()


@pytest.fixture
def bring(uploading: Uploading) -> Knock:
    door = FrontDoor(
        uploading,
        ports=PORTS,
        doorways=PORTS.values(),
        max_body_bytes=1000,
        receive_timeout_s=0.05,
        intakes={"/v1/upload": UPLOADS},
    )
    return Knock(door)


async def test_an_upload_is_handed_on_as_it_arrives(bring: Knock, uploading: Uploading) -> None:
    await bring("/v1/upload", headers=[FORM, ("content-length", "2400")], chunks=[b"x" * 800] * 3)

    assert bring.status == 200
    assert [len(piece) for piece in uploading.pieces] == [800, 800, 800]


async def test_an_upload_that_says_it_is_too_large_is_refused_unread(
    bring: Knock, uploading: Uploading
) -> None:
    await bring("/v1/upload", headers=[FORM, ("content-length", "3001")], chunks=[b"x"])

    assert bring.status == 413
    assert uploading.pieces == []


async def test_an_upload_that_grows_too_large_is_stopped(bring: Knock) -> None:
    chunked = [FORM, ("transfer-encoding", "chunked")]

    with pytest.raises(PayloadTooLarge):
        await bring("/v1/upload", headers=chunked, chunks=[b"x" * 800] * 5)


async def test_an_upload_that_pauses_for_too_long_is_ended(bring: Knock) -> None:
    with pytest.raises(ReceiveTimeout):
        await bring("/v1/upload", headers=[FORM, ("content-length", "2400")])


async def test_an_upload_of_another_type_is_refused(bring: Knock, uploading: Uploading) -> None:
    await bring("/v1/upload", headers=[JSON, ("content-length", "2")], chunks=[b"{}"])

    assert bring.status == 400
    assert "multipart/form-data" in bring.error["message"]
    assert uploading.pieces == []


EXPRESS = "/v1/chat/completions"
BODY = [JSON, ("content-length", "2")]


def with_express(reached: Reached, express: Any) -> Knock:
    door = FrontDoor(
        reached,
        ports=PORTS,
        doorways=PORTS.values(),
        max_body_bytes=1000,
        receive_timeout_s=5.0,
        express={("POST", EXPRESS): express},
    )
    return Knock(door)


async def test_an_express_route_is_behind_the_same_door(reached: Reached) -> None:
    express = Reached()
    evil = [("host", "evil.example"), *BODY]

    refused = await with_express(reached, express)(EXPRESS, headers=evil, chunks=[b"{}"])
    assert (refused.status, express.path) == (403, None)
    await with_express(reached, express)(EXPRESS, method="GET")
    assert (reached.path, express.path) == (EXPRESS, None)
    let_in = await with_express(reached, express)(EXPRESS, headers=BODY, chunks=[b"{}"])
    assert (let_in.status, express.path, express.body) == (200, EXPRESS, b"{}")
    assert "x-correlation-id" in let_in.headers


@pytest.mark.parametrize(
    ("error", "status"), [(PayloadTooLarge("Too much."), 413), (RuntimeError("secret"), 500)]
)
async def test_what_fails_on_an_express_route_is_answered_and_the_connection_stays(
    reached: Reached, error: Exception, status: int
) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise error

    answered = await with_express(reached, failing)(EXPRESS, headers=BODY, chunks=[b"{}"])

    assert answered.status == status
    assert "connection" not in answered.headers
    assert set(answered.error) == {"message", "type", "param", "code"}
    assert "secret" not in answered.error["message"]


async def test_an_answer_that_began_on_an_express_route_is_not_begun_again(
    reached: Reached,
) -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("late")

    knock = with_express(reached, failing)
    with pytest.raises(RuntimeError, match="late"):
        await knock(EXPRESS, headers=BODY, chunks=[b"{}"])

    assert [message["type"] for message in knock.sent] == ["http.response.start"]
