"""Looking for words in the workspace: names and lines, nothing outside, and never for long."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sonia.tools.interface import ArgumentsInvalid
from sonia.tools.searching import MAX_HITS, Hits, Search, compiled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("the tea outside")
    inside = tmp_path / "inside"
    (inside / "notes").mkdir(parents=True)
    (inside / "notes" / "shop.md").write_text("milk\nGreen Tea\nbread\n")
    (inside / "tea-list.txt").write_text("nothing here\n")
    return inside


def search(folder: Path, query: str, *, pattern: bool = False, **more: object) -> Hits:
    limits = {"named": "", "max_bytes": 100_000, "limit_s": 30.0, **more}
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return Search(compiled(query, pattern=pattern), **limits).below(opened, "")  # type: ignore[arg-type]
    finally:
        os.close(opened)


def test_names_and_lines_are_found_without_regard_to_case(folder: Path) -> None:
    found = search(folder, "tea")

    assert found.names == ("tea-list.txt",)
    assert [(hit.path, hit.line, hit.text) for hit in found.matches] == [
        ("notes/shop.md", 2, "Green Tea")
    ]
    assert not found.truncated


def test_a_query_is_plain_text_unless_it_is_said_to_be_a_pattern(folder: Path) -> None:
    assert search(folder, "g.*a").matches == ()
    assert search(folder, "^g.*a$", pattern=True).matches[0].text == "Green Tea"


def test_only_files_of_the_wanted_name_are_looked_into(folder: Path) -> None:
    assert search(folder, "tea", named=".TXT").matches == ()
    assert search(folder, "tea", named=".md").matches[0].path == "notes/shop.md"


def test_t25_links_second_names_pipes_and_hidden_files_are_not_looked_into(folder: Path) -> None:
    (folder / "link.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "up").symlink_to(folder.parent)
    os.link(folder.parent / "secret.txt", folder / "second.txt")
    os.mkfifo(folder / "pipe")
    (folder / ".env").write_text("outside")
    (folder / "blob.bin").write_bytes(b"\0outside")

    found = search(folder, "outside")

    assert found.matches == ()
    assert found.skipped == 1


def test_t41_no_pattern_takes_longer_than_its_text(folder: Path) -> None:
    (folder / "long.txt").write_text("a" * 90_000 + "b")

    assert search(folder, "(a+)+$", pattern=True, named="long").matches == ()


@pytest.mark.parametrize("pattern", ["(", "(?=a)b", r"(a)\1", "a{1,99999}"])
def test_t41_what_re2_has_not_is_refused_by_name(pattern: str) -> None:
    with pytest.raises(ArgumentsInvalid, match="RE2"):
        compiled(pattern, pattern=True)


def test_t20_files_with_the_names_of_credentials_are_not_looked_into(folder: Path) -> None:
    (folder / "id_rsa").write_text("tea")
    (folder / "server.pem").write_text("tea")

    assert [hit.path for hit in search(folder, "tea").matches] == ["notes/shop.md"]


def test_many_hits_and_a_stop_end_the_search_and_say_so(folder: Path) -> None:
    (folder / "many.txt").write_text("tea\n" * (2 * MAX_HITS))
    (folder / "more.txt").write_text("tea\n")

    many = search(folder, "tea")
    late = search(folder, "tea", limit_s=0.0)

    assert len(many.matches) == MAX_HITS
    assert many.truncated
    assert late.truncated
    assert late.searched == 0
