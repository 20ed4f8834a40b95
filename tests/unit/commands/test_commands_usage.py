"""`sonia usage` and the models elsewhere: what a person sees."""

from __future__ import annotations

from typing import Any

import pytest

from sonia.commands.line import run

ROW = {
    "day": "2026-11-26",
    "model": "openai/gpt-4o",
    "calls": 3,
    "prompt_tokens": 30,
    "completion_tokens": 12,
    "cached_tokens": 0,
    "cost_usd": 0.0123,
    "unpriced_calls": 0,
}
BUDGET = {
    "scope": "day",
    "key": "",
    "limit_tokens": 0,
    "limit_usd": 5.0,
    "spent_tokens": 42,
    "spent_usd": 0.0123,
    "reserved_tokens": 0,
    "reserved_usd": 0.0,
}


@pytest.mark.parametrize(
    ("unpriced", "said"),
    [(0, "$0.0123"), (1, "$0.0123 and 1 of unknown cost"), (3, "cost unknown")],
)
def test_usage_says_what_is_known_of_the_cost(
    stand_in: Any, capsys: pytest.CaptureFixture[str], unpriced: int, said: str
) -> None:
    told = {"usage": [{**ROW, "unpriced_calls": unpriced}], "budgets": [BUDGET]}
    stand_in.answers["GET /router/usage"] = lambda http, _: http.data(told)

    assert run(["usage", "--days", "2", "--user", "ana"]) == 0

    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(said)
    assert second == "Budget of day: $0.0123 of $5.00"
    assert stand_in.asked[-1][1] == "/router/usage?days=2&user_id=ana"


def test_allowing_more_sends_the_operators_token(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.answers["POST /router/usage/allow"] = lambda http, _: http.data(BUDGET)

    assert run(["usage", "allow", "--usd", "2", "--user", "ana"]) == 0

    _, _, body, headers = stand_in.asked[-1]
    assert body == {"scope": "user", "key": "ana", "usd": 2.0, "tokens": 0}
    assert headers["Authorization"].startswith("Bearer ")


def test_models_elsewhere_are_listed_and_tried(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = {
        "response": "ready\x1b[2J",
        "model": "house/m",
        "first_token_ms": 12.4,
        "usage": {"prompt_tokens": 9, "completion_tokens": 1},
        "cost_usd": None,
    }
    listed = {"models": ["house/m"]}
    stand_in.answers["GET /router/models/house/listed"] = lambda http, _: http.data(listed)
    stand_in.answers["POST /router/chat"] = lambda http, _: http.data(reply)

    assert run(["models", "remote", "house"]) == 0
    assert run(["models", "test", "house/m"]) == 0

    out = capsys.readouterr().out
    assert out.startswith("house/m\n")
    assert "cost unknown" in out
    assert "\x1b" not in out
