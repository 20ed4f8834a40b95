"""Reading a command just far enough to help."""

from __future__ import annotations

import pytest

from sonia.tools.builtin import shell_words
from sonia.tools.output import Kept


def test_a_powershell_command_is_answered_with_its_like_here() -> None:
    assert shell_words.missing("Get-ChildItem -Force") == "Get-ChildItem"
    assert shell_words.explain("Get-ChildItem") == (
        "This host's shell is /bin/sh (Linux). 'Get-ChildItem' is a PowerShell command; "
        "the like of it here is 'ls'."
    )


@pytest.mark.parametrize(
    "command",
    [
        "ls -la",
        "cd notes && ls",
        "A=1 B=2 ls",
        "echo hi > file",
        "for x in 1 2; do echo $x; done",
        "if true; then echo; fi",
        "./script.sh",
        "/usr/bin/env",
        "$CMD",
        "`which ls`",
        "(ls)",
        "{ ls; }",
        "! false",
        "greet() { echo hi; }; greet",
        "greet () { echo hi; }; greet",
        "# a comment",
        "echo 'unclosed",
        "",
        "[ -f x ]",
        ". ./env",
        "exec ls",
        "*",
        "<in cat",
    ],
)
def test_what_may_well_run_is_left_to_the_person(command: str) -> None:
    assert shell_words.missing(command) is None


@pytest.mark.parametrize("command", ["no-such-program-here", "X=1 no-such-program-here -v"])
def test_a_command_that_is_not_here_is_named(command: str) -> None:
    assert shell_words.missing(command) == "no-such-program-here"


def test_short_output_is_kept_whole() -> None:
    kept = Kept(100)

    kept.add(b"a" * 60)
    kept.add(b"b" * 40)

    assert kept.text() == "a" * 60 + "b" * 40
    assert kept.dropped == 0


def test_long_output_keeps_both_ends_and_says_how_much_is_missing() -> None:
    kept = Kept(100)

    for number in range(1000):
        kept.add(b"%09d\n" % number)

    text = kept.text()
    assert text.startswith("000000000\n")
    assert text.endswith("000000999\n")
    assert kept.dropped == 10_000 - 100
    assert "9900 bytes left out" in text
    assert len(text) < 150


def test_one_huge_chunk_is_cut_like_many_small_ones() -> None:
    whole, parts = Kept(64), Kept(64)
    data = bytes(range(97, 123)) * 50

    whole.add(data)
    for start in range(0, len(data), 7):
        parts.add(data[start : start + 7])

    assert whole.text() == parts.text()
    assert whole.dropped == parts.dropped
