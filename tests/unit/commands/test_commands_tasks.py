"""`sonia tasks` against a server of answers."""

from __future__ import annotations

from typing import Any

import pytest

from sonia.__main__ import main

from .conftest import StandIn

TASK = {
    "id": "task_1",
    "kind": "turn",
    "text": "read my notes\x1b[2J",
    "schedule": {"cron": "0 8 * * mon-fri"},
    "next_at": "2026-03-02T07:00:00Z",
    "runs": [],
}
RUN = {
    "id": "run_1",
    "started_at": "2026-03-01T07:00:00Z",
    "status": "waiting",
    "response": "",
    "error": None,
    "approvals": ["appr_1"],
}


def test_what_is_planned_is_listed_with_when_and_without_control_characters(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.answers["GET /control/tasks"] = lambda handler, _: handler.data([TASK])

    assert main(["tasks"]) == 0

    said = capsys.readouterr().out
    assert "task_1" in said
    assert "0 8 * * mon-fri" in said
    assert "\x1b" not in said


def test_a_task_is_added_in_words(stand_in: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    stand_in.answers["POST /control/tasks"] = lambda handler, _: handler.data(TASK)

    assert main(["tasks", "add", "read my notes", "--when", "every weekday at 8", "--remind"]) == 0

    _, _, body, _ = stand_in.asked[-1]
    assert body == {"text": "read my notes", "when": "every weekday at 8", "kind": "reminder"}


def test_a_run_that_waits_says_how_to_answer_it(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    task: dict[str, Any] = TASK | {"runs": [RUN]}
    stand_in.answers["GET /control/tasks/task_1"] = lambda handler, _: handler.data(task)

    assert main(["tasks", "show", "task_1"]) == 0

    assert "sonia approvals approve appr_1" in capsys.readouterr().out
