"""Every example of docs/openai.md runs as it stands, against a server that a person would start."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, Server

URL = "http://localhost:7000"
PAGES = ("docs/openai.md", "README.md")


def examples() -> list[str]:
    """Indented blocks of Python that begin with an SDK's import."""
    found: list[str] = []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        for block in re.findall(r"(?:^ {4}.*\n|^\n(?= {4}))+", text, re.MULTILINE):
            if re.match(r"\n* {4}from (openai|anthropic) import", block):
                found.append(re.sub(r"^ {4}", "", block, flags=re.MULTILINE))
    return found


def test_there_is_an_example_for_each_client() -> None:
    assert {found.split()[1] for found in examples()} == {"openai", "anthropic"}


@pytest.mark.parametrize("example", examples())
def test_an_example_runs_and_prints_an_answer(server: Server, example: str) -> None:
    assert URL in example

    ran = subprocess.run(
        [sys.executable, "-c", example.replace(URL, server.url())],
        capture_output=True,
        text=True,
        timeout=110,
    )

    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Paris" in ran.stdout
