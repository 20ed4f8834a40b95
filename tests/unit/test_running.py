"""Which Sonia serves a data folder: announced, alone, and gone without a trace."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sonia.errors import ConfigurationError
from sonia.running import AlreadyRunning, Running, announce, holding, read

SERVE = """
import os, sys, pathlib
from sonia.running import Running, announce, holding
data = pathlib.Path(sys.argv[1])
with holding(data):
    if "quiet" not in sys.argv:
        announce(data, Running(pid=os.getpid(), started_at="2026-02-08T09:30:00.000Z",
                               version="1", host="127.0.0.1", ports={"api-gateway": 7000}))
    print("up", flush=True)
    sys.stdin.read()
"""


class Other:
    """Another process that holds `data`."""

    def __init__(self, data: Path, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(data), *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout
        assert self.process.stdout.readline() == b"up\n"

    def end(self, how: signal.Signals | None = None) -> None:
        if how:
            self.process.send_signal(how)
        self.process.communicate()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def other(data: Path) -> Iterator[Other]:
    other = Other(data)
    yield other
    other.process.kill()
    other.process.communicate()


def running(pid: int) -> Running:
    return Running(pid=pid, started_at="now", version="1", host="::1", ports={})


def test_a_server_that_lives_is_found(data: Path, other: Other) -> None:
    found = read(data)

    assert found is not None
    assert found.pid == other.process.pid
    assert found.ports == {"api-gateway": 7000}


def test_nobody_is_found_where_nobody_ever_was(data: Path) -> None:
    assert read(data) is None
    assert not data.exists()


def test_r25_a_second_one_is_refused_and_the_first_unharmed(data: Path, other: Other) -> None:
    with pytest.raises(AlreadyRunning) as caught, holding(data):
        pass

    assert str(other.process.pid) in caught.value.message
    assert caught.value.details["pid"] == other.process.pid
    assert read(data) is not None


def test_r25_a_second_one_is_refused_while_the_first_is_still_starting(data: Path) -> None:
    starting = Other(data, "quiet")
    try:
        with pytest.raises(AlreadyRunning, match="still starting"), holding(data):
            pass
        assert read(data) is None
    finally:
        starting.end()


def test_r25_a_killed_one_leaves_nothing_stale(data: Path, other: Other) -> None:
    other.end(signal.SIGKILL)

    assert (data / "run.json").exists()
    assert read(data) is None
    with holding(data):
        assert not (data / "run.json").exists()


def test_a_server_that_ends_takes_its_announcement_along(data: Path, other: Other) -> None:
    other.end()

    assert read(data) is None
    assert not (data / "run.json").exists()


def test_a_process_that_only_got_the_dead_ones_number_is_not_taken_for_it(data: Path) -> None:
    data.mkdir()
    (data / "sonia.lock").touch()
    announce(data, running(os.getpid()))

    assert read(data) is None


def test_somebody_who_looks_at_this_moment_keeps_nobody_from_starting(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mkdir()
    (data / "sonia.lock").touch()
    looking = os.open(data / "sonia.lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))

    with holding(data):
        os.close(looking)


def test_the_announcement_is_for_its_owner_only_and_whole(data: Path) -> None:
    with holding(data):
        announce(data, running(1))
        announce(data, running(2))

        assert (data / "run.json").stat().st_mode & 0o777 == 0o600
        assert (data / "sonia.lock").stat().st_mode & 0o777 == 0o600
        assert data.stat().st_mode & 0o777 == 0o700
        assert sorted(path.name for path in data.iterdir()) == ["run.json", "sonia.lock"]


def test_r26_a_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with (
        pytest.raises(ConfigurationError, match=r"paths\.data: .*/file/data can't be used"),
        holding(tmp_path / "file/data"),
    ):
        pass
