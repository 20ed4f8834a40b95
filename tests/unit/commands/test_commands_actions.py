"""`sonia actions`: what a person sees of what was done, and undoing it."""

from __future__ import annotations

from typing import Any

import pytest

from sonia.commands.line import run
from tests.unit.commands.conftest import TOKEN

ACTION = {
    "action_id": "act_1",
    "status": "executed",
    "tool": "file.delete",
    "risk": 2,
    "created_at": "2026-11-26T08:00:00Z",
    "preview": "Move the file a.txt to the trash (3 bytes)\x1b[2J",
    "undoable": True,
    "sent": [{"url": "http://a.example/", "address": "93.184.215.14", "sent_bytes": 120}],
    "error": None,
}


def test_what_was_done_is_listed_with_what_can_be_undone(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.answers["GET /v1/actions"] = lambda http, _: http.data([ACTION])

    assert run(["actions"]) == 0

    said = capsys.readouterr().out
    assert said.startswith("act_1  executed")
    assert said.endswith("(can be undone)\n")
    assert "\x1b" not in said


def test_one_action_is_shown_with_what_left_the_machine(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.answers["GET /v1/actions/act_1"] = lambda http, _: http.data(ACTION)

    assert run(["actions", "show", "act_1"]) == 0

    said = capsys.readouterr().out
    assert "Sent 120 bytes to 93.184.215.14: http://a.example/" in said
    assert "sonia actions undo act_1" in said


def test_undoing_carries_the_operators_token(
    stand_in: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    undone = {**ACTION, "status": "undone"}
    stand_in.answers["POST /tools/undo/act_1"] = lambda http, _: http.data(undone)

    assert run(["actions", "undo", "act_1"]) == 0

    assert capsys.readouterr().out == "act_1: undone\n"
    assert stand_in.asked[-1][3]["Authorization"] == f"Bearer {TOKEN}"
