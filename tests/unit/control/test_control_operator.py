"""The operator's token: who may read it, and what passes."""

from __future__ import annotations

import secrets
import stat
from pathlib import Path

import pytest

from sonia.control import Operator, open_operator, read_token
from sonia.errors import ConfigurationError, Unauthorized
from sonia.log import redact


def token_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "operator.token"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_first_start_makes_a_token_that_only_its_owner_can_read(tmp_path: Path) -> None:
    operator = open_operator(tmp_path / "data")

    path = tmp_path / "data" / "operator.token"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(bytes.fromhex(path.read_text())) == 32
    assert [each.name for each in path.parent.iterdir()] == ["operator.token"]
    assert isinstance(operator, Operator)
    operator.check(f"Bearer {path.read_text().strip()}")


def test_the_next_start_reads_the_same_token(tmp_path: Path) -> None:
    open_operator(tmp_path)
    token = read_token(tmp_path).reveal()

    open_operator(tmp_path).check(f"bearer {token}")

    assert read_token(tmp_path).reveal() == token


def test_two_installations_have_different_tokens(tmp_path: Path) -> None:
    for name in ("a", "b"):
        open_operator(tmp_path / name)

    assert read_token(tmp_path / "a") != read_token(tmp_path / "b")


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o620, 0o666, 0o610])
def test_t48_a_token_that_others_can_use_stops_the_start(tmp_path: Path, mode: int) -> None:
    token_file(tmp_path, secrets.token_hex(32), mode)

    with pytest.raises(ConfigurationError, match=r"operator\.token.*0600"):
        open_operator(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "\n", "short", "a" * 42, "a b" * 30, "\u00e9" * 50, "a" * 600]
)
def test_t11_what_is_no_token_stops_the_start(tmp_path: Path, text: str) -> None:
    token_file(tmp_path, text)

    with pytest.raises(ConfigurationError, match="no token"):
        open_operator(tmp_path)


def test_a_token_behind_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "operator.token").symlink_to(token_file(tmp_path, "a" * 64))

    with pytest.raises(ConfigurationError):
        open_operator(tmp_path / "data")


def test_a_folder_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "operator.token").mkdir(mode=0o700)

    with pytest.raises(ConfigurationError, match="regular file"):
        open_operator(tmp_path)


def test_reading_a_token_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="serve"):
        read_token(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_t11_ten_thousand_guesses_are_refused(tmp_path: Path) -> None:
    operator = open_operator(tmp_path)
    accepted = 0

    for _ in range(10_000):
        try:
            operator.check(f"Bearer {secrets.token_hex(32)}")
        except Unauthorized:
            continue
        accepted += 1

    assert accepted == 0


def test_t11_only_the_whole_token_as_bearer_passes(tmp_path: Path) -> None:
    operator = open_operator(tmp_path)
    token = read_token(tmp_path).reveal()

    for wrong in (
        None,
        "",
        "Bearer",
        "Bearer ",
        token,
        f"Basic {token}",
        f"Bearer {token[:-1]}",
        f"Bearer {token}0",
        f"Bearer {token.upper()}x",
        f"Bearer {token} {token}",
        "Bearer \udcff\u00e9",
    ):
        with pytest.raises(Unauthorized, match=r"operator\.token") as refused:
            operator.check(wrong)
        assert token not in refused.value.message


def test_t43_the_token_shows_in_no_log_line_and_no_repr(tmp_path: Path) -> None:
    operator = open_operator(tmp_path)
    token = (tmp_path / "operator.token").read_text().strip()

    assert token not in redact(f"given {token}!")
    assert token not in repr(vars(operator))
