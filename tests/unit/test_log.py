"""The logs: where a line goes, what it carries, and what it must not."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from sonia import log as log_module
from sonia.envelope import Exchange, enter
from sonia.log import SERVICES, get_logger, hide, open_logs, redact, tell

KNOWN = "the-canary-in-the-coal-mine"
SHAPED = {
    "provider key": "sk-ant-api03-AbCdEfGh1234567890",
    "bearer": "Bearer abc+def/ghi~jkl0123==",
    "lower-case bearer": "bearer abcdefgh12345678",
    "web token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "cloud key": "AKIAIOSFODNN7EXAMPLE",
    "forge token": "ghp_" + "a1B2" * 9,
    "chat token": "xoxb-123456789-abcdef",
    "private key": "-----BEGIN RSA PRIVATE KEY-----\nMIIEabc\nDEF0\n-----END RSA PRIVATE KEY-----",
    "half a private key": "-----BEGIN PRIVATE KEY-----\nMIIEabc",
}


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(log_module, "_known", set())
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def lines(folder: Path, service: str) -> list[dict[str, Any]]:
    text = (folder / "services" / f"{service}.log").read_text()
    return [json.loads(line) for line in text.splitlines()]


def everything(folder: Path) -> str:
    return "".join(file.read_text() for file in (folder / "services").iterdir())


# --- where lines go --------------------------------------------------------------------------


def test_each_service_has_its_own_file_of_json_lines(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        for service in SERVICES:
            get_logger(service).info("started", port=7000)

    for service in SERVICES:
        (line,) = lines(tmp_path, service)
        assert line.pop("timestamp").endswith("Z")
        assert line == {"event": "started", "level": "info", "service": service, "port": 7000}
    assert lines(tmp_path, "sonia") == []


def test_lines_of_no_service_and_of_libraries_go_to_one_file(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        get_logger("sonia").info("ours")
        logging.getLogger("some.library").warning("theirs: %s", "words")

    assert [line["event"] for line in lines(tmp_path, "sonia")] == ["ours", "theirs: words"]
    assert all(lines(tmp_path, service) == [] for service in SERVICES)


def test_lines_below_the_level_are_not_written(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="WARNING", style="json"):
        get_logger("sonia").info("quiet")
        get_logger("sonia").warning("loud")

    assert [line["event"] for line in lines(tmp_path, "sonia")] == ["loud"]


def test_libraries_that_log_every_request_are_heard_only_when_something_is_wrong(
    tmp_path: Path,
) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        logging.getLogger("httpx").info("GET")
        logging.getLogger("httpx").warning("broken")

    assert [line["event"] for line in lines(tmp_path, "sonia")] == ["broken"]


def test_what_is_queued_is_written_before_leaving(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        for number in range(2000):
            get_logger("openclaw").info("line", number=number)

    assert [line["number"] for line in lines(tmp_path, "openclaw")] == list(range(2000))


def test_lines_for_people_are_no_json(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="INFO", style="text") as services:
        get_logger("sonia").info("started", port=7000)

    text = (services / "sonia.log").read_text()
    assert "started" in text
    assert "port=7000" in text
    assert not text.startswith("{")


def test_leaving_puts_logging_back_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, talkative = logging.getLogger(), logging.getLogger("httpx")
    monkeypatch.setattr(talkative, "level", logging.ERROR)
    before = (root.level, list(root.handlers), talkative.level)

    with open_logs(tmp_path, level="DEBUG", style="json"):
        assert (root.level, talkative.level) == (logging.DEBUG, logging.WARNING)

    assert (root.level, list(root.handlers), talkative.level) == before


# --- what lines carry ------------------------------------------------------------------------


async def test_lines_carry_the_id_of_the_request_they_are_written_for(tmp_path: Path) -> None:
    async def answer(number: int) -> None:
        enter(Exchange(correlation_id=f"req_{number}", trace_id=f"trace_{number}"))
        await asyncio.sleep(0)
        get_logger("api-gateway").info("answered", number=number)
        logging.getLogger("some.library").warning("asked %d", number)

    with open_logs(tmp_path, level="INFO", style="json"):
        await asyncio.gather(answer(1), answer(2))

    ours, theirs = lines(tmp_path, "api-gateway"), lines(tmp_path, "sonia")
    assert [(line["number"], line["correlation_id"], line["trace_id"]) for line in ours] == [
        (1, "req_1", "trace_1"),
        (2, "req_2", "trace_2"),
    ]
    assert [(line["event"], line["correlation_id"]) for line in theirs] == [
        ("asked 1", "req_1"),
        ("asked 2", "req_2"),
    ]


def test_an_exception_is_logged_with_where_it_came_from(tmp_path: Path) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        try:
            raise ValueError("the hinge broke")
        except ValueError as error:
            get_logger("sonia").error("unhandled", exc_info=error)

    (line,) = lines(tmp_path, "sonia")
    assert "ValueError: the hinge broke" in line["exception"]
    assert "test_an_exception_is_logged" in line["exception"]


# --- what they must not ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPED)
def test_t43_what_looks_like_a_credential_is_redacted_whole(shape: str) -> None:
    assert redact(f"before {SHAPED[shape]}") == "before ***"


def test_t43_what_stands_behind_a_private_key_is_kept() -> None:
    assert redact(f"{SHAPED['private key']} and more") == "*** and more"


def test_t43_a_secret_that_begins_with_another_is_redacted_whole() -> None:
    for more in ("", "-and-more", "-and-more-still"):
        hide(KNOWN + more)

    assert redact(f"{KNOWN}-and-more-still, {KNOWN}-and-more, {KNOWN}") == "***, ***, ***"


def test_t43_a_value_too_short_to_be_a_secret_hides_nothing() -> None:
    hide("a")
    hide("")

    assert redact("a plain sentence") == "a plain sentence"


@pytest.mark.parametrize(
    "fields",
    [
        {"event": f"asked with {KNOWN}"},
        {"event": "asked", "url": f"https://example.org/?key={KNOWN}"},
        {"event": "asked", "nested": {"list": [{"deep": (KNOWN,)}]}},
        {"event": "asked", "keys": {KNOWN: 1}},
        {"event": "asked", "bytes": KNOWN.encode()},
        {"event": "asked", "several": {KNOWN}},
        {"event": "asked", "object": Path(KNOWN)},
    ],
    ids=lambda fields: list(fields)[-1],
)
def test_t43_a_known_secret_is_in_no_line_wherever_it_was_put(
    fields: dict[str, Any], tmp_path: Path
) -> None:
    hide(KNOWN)

    with open_logs(tmp_path, level="INFO", style="json"):
        get_logger("model-router").info(**fields)

    assert len(lines(tmp_path, "model-router")) == 1
    assert KNOWN not in everything(tmp_path)
    assert "***" in everything(tmp_path)


@pytest.mark.parametrize("value", ["pässword one", ["pässword one"]])
@pytest.mark.parametrize("name", ["api_key", "APIKEY", "auth_token", "password", "Authorization"])
def test_t43_a_field_named_for_a_secret_is_redacted_whatever_it_holds(
    name: str, value: Any, tmp_path: Path
) -> None:
    with open_logs(tmp_path, level="INFO", style="json"):
        get_logger("sonia").info("asked", headers={name: value}, prompt_tokens=12)

    (line,) = lines(tmp_path, "sonia")
    assert "one" not in json.dumps(line["headers"])
    assert line["prompt_tokens"] == 12


def test_t43_no_secret_leaves_in_an_exception_or_its_cause(tmp_path: Path) -> None:
    hide(KNOWN)

    with open_logs(tmp_path, level="INFO", style="json"):
        try:
            try:
                raise ValueError(f"401 for {KNOWN}")
            except ValueError as error:
                raise RuntimeError(f"no answer: {SHAPED['provider key']}") from error
        except RuntimeError as error:
            get_logger("sonia").error("failed", exc_info=error)
            logging.getLogger("some.library").exception("failed with %s", KNOWN)

    ours, theirs = lines(tmp_path, "sonia")
    assert "401 for ***" in ours["exception"]
    assert "no answer: ***" in ours["exception"]
    assert "401 for ***" in theirs["exception"]
    assert theirs["event"] == "failed with ***"
    assert KNOWN not in everything(tmp_path)
    assert "sk-ant" not in everything(tmp_path)


def test_the_short_way_writes_the_same_line_without_its_secrets(tmp_path: Path) -> None:
    hide(KNOWN)
    with open_logs(tmp_path, level="INFO", style="json"):
        enter(Exchange(correlation_id="req_1"))
        facts = {"path": f"/v1/{KNOWN}", "api_key": "abc", "parts": ["sk-abcdefgh12345678"]}
        get_logger("api-gateway").info("request", status=200, **facts)
        tell("api-gateway", "request", status=200, **facts)
    with open_logs(tmp_path, level="WARNING", style="json"):
        tell("api-gateway", "not told")

    one, other = lines(tmp_path, "api-gateway")
    assert one.pop("timestamp")[-1] == other.pop("timestamp")[-1] == "Z"
    assert one == other
    assert one["path"] == "/v1/***"
    assert (one["api_key"], one["parts"]) == ("***", ["***"])
