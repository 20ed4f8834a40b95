"""`sonia audit` against a server of answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sonia.__main__ import main

from .conftest import StandIn

ROWS = [
    {"number": 1, "at": "2026-03-01T07:00:00Z", "kind": "decision", "data": {"t": "\x1b"},
     "hash": "aa"},
    {"number": 2, "at": "2026-03-01T07:00:01Z", "kind": "tool.started", "data": {}, "hash": "bb"},
]  # fmt: skip


@pytest.fixture
def server(stand_in: StandIn) -> StandIn:
    def page(handler: Any, _: Any) -> None:
        after = int(handler.path.partition("after=")[2].partition("&")[0])
        handler.data([row for row in ROWS if row["number"] > after])  # type: ignore[operator]

    check = {"ok": True, "entries": 2, "broken_at": None, "head": "bb"}
    stand_in.answers["GET /control/audit"] = page
    stand_in.answers["GET /control/audit/verify"] = lambda handler, _: handler.data(check)
    return stand_in


def test_rows_are_shown_by_kind_and_without_control_characters(
    server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "show", "--kind", "decision"]) == 0

    said = capsys.readouterr().out
    assert "decision" in said
    assert "tool.started" not in said
    assert "\x1b" not in said


def test_a_kept_head_is_looked_for_in_the_chain(
    server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify", "--head", "aa"]) == 0
    assert main(["audit", "verify", "--head", "cc"]) == 1

    assert "rewritten" in capsys.readouterr().err


def test_a_broken_chain_fails_and_names_the_row(
    server: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = {"ok": False, "entries": 2, "broken_at": 2, "head": "bb"}
    server.answers["GET /control/audit/verify"] = lambda handler, _: handler.data(broken)

    assert main(["audit", "verify"]) == 1

    assert "row 2" in capsys.readouterr().err


def test_an_export_is_new_whole_and_its_owners_only(
    server: StandIn, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "export", "ledger.jsonl"]) == 0
    assert main(["audit", "export", "ledger.jsonl"]) == 1

    path = folder / "ledger.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert lines[:2] == ROWS
    assert lines[2] == {"head": "bb", "entries": 2, "ok": True}
    assert path.stat().st_mode & 0o777 == 0o600
    assert "can't be made" in capsys.readouterr().err
