"""What a program is made of, and what its sandbox shows of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from sonia.config import McpServer
from sonia.tools.mcp.room import Around, made_of, sandboxed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="bubblewrap is Linux's")


def program(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_a_program_of_the_system_needs_nothing_more() -> None:
    assert made_of("/bin/sh") == ()


def test_an_installation_is_shown_whole_and_what_reads_its_script_too(home: Path) -> None:
    node = program(home / "node" / "v20" / "bin" / "node")
    script = program(home / "server" / "bin" / "serve", f"#!{node}\n")

    assert made_of(str(script)) == (home / "server", home / "node" / "v20")


def test_where_many_programs_lie_only_their_folder_is_shown(home: Path) -> None:
    script = program(home / ".local" / "bin" / "serve", "#!/bin/sh\n")
    other = program(home / "bin" / "serve", "#!/bin/sh\n")

    assert made_of(str(script)) == (home / ".local" / "bin",)
    assert made_of(str(other)) == (home / "bin",)


def test_an_environment_brings_the_python_it_was_made_from(home: Path) -> None:
    python = program(home / "pythons" / "3.12" / "bin" / "python")
    place = home / "env"
    linked = place / "bin" / "python"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(python)
    (place / "pyvenv.cfg").write_text(f"home = {python.parent}\nversion = 3.12\n")
    script = program(place / "bin" / "serve", f"#!{linked}\n")

    assert set(made_of(str(script))) == {place, home / "pythons" / "3.12"}


def test_what_is_sonias_own_stays_hers_in_a_folder_that_may_be_written(tmp_path: Path) -> None:
    own, data = tmp_path / "sonia.toml", tmp_path / "data"
    own.touch()
    data.mkdir()
    server = McpServer(command=("/bin/sh",), writes=(str(tmp_path),))

    words = " ".join(sandboxed(server, Around(tmp_path / "workspace", (data,), (own,))))

    given = words.index(f"--bind {tmp_path} {tmp_path}")
    assert given < words.index(f"--tmpfs {data}")
    assert given < words.index(f"--ro-bind-try {own} {own}")
    assert "--share-net" not in words


def test_the_network_is_shared_when_it_was_given(tmp_path: Path) -> None:
    server = McpServer(command=("/bin/sh",), network=True)

    assert "--share-net" in sandboxed(server, Around(tmp_path))
