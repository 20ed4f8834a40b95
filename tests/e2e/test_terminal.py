"""A person at a terminal: a question, a consent, an answer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Server

pytestmark = pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are a Unix thing")


class Terminal:
    """One `sonia` command in a terminal of its own."""

    def __init__(self, server: Server, *words: str) -> None:
        self._ours, theirs = pty.openpty()
        self.shown = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sonia", *words],
            env=server.environment | {"TERM": "dumb"},
            cwd=ROOT,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)

    def until(self, text: str) -> None:
        while text not in self.shown:
            piece = os.read(self._ours, 4096)
            self.shown += piece.decode(errors="replace")

    def type(self, line: str) -> None:
        os.write(self._ours, f"{line}\n".encode())

    def end(self) -> int:
        status = self.process.wait(timeout=60)
        os.close(self._ours)
        return status


@pytest.mark.parametrize(("said", "written"), [("y", True), ("n", False)])
def test_a_tool_call_waits_for_the_person(
    start: Callable[..., Server], tmp_path: Path, said: str, written: bool
) -> None:
    server = start(tmp_path)
    server.until_ready()
    asked = "Write a file called todo.txt with the content: buy milk"
    terminal = Terminal(server, "chat", asked)

    terminal.until("[y/N]")
    before = (tmp_path / "workspace" / "todo.txt").exists()
    terminal.type(said)
    terminal.until("executed" if written else "denied")
    status = terminal.end()

    after = tmp_path / "workspace" / "todo.txt"
    assert "buy milk" in terminal.shown
    assert not before
    assert after.exists() == written
    assert status == 0
