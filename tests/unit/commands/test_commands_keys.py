"""`sonia keys`: a key is shown once, and what a revoked one means is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonia.commands.line import run
from sonia.keys import PREFIX, digest_of, read_keys


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SONIA__PATHS__DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_a_key_is_printed_alone_and_only_its_hash_is_kept(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["keys", "create", "desk", "--user", "ann"]) == 0

    key = capsys.readouterr().out.strip()
    assert key.startswith(PREFIX)
    (record,) = read_keys(data)
    assert (record.digest, record.user) == (digest_of(key), "ann")
    assert run(["keys", "list"]) == 0
    listed = capsys.readouterr().out
    assert "desk" in listed
    assert key not in listed


def test_revoking_the_last_key_says_that_the_door_is_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run(["keys", "create", "desk"])
    run(["keys", "create", "phone"])
    capsys.readouterr()

    assert run(["keys", "revoke", "desk"]) == 0
    assert capsys.readouterr().err == ""
    assert run(["keys", "revoke", "phone"]) == 0
    assert "need none" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["create", "a b"], ["revoke", "nobody"], ["create", "x" * 65]])
def test_what_can_not_be_done_is_told(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", *words]) == 1
    assert capsys.readouterr().err.startswith("sonia: ")
