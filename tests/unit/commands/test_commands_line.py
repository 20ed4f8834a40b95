"""The command line: help that teaches, errors in one line, and the exit statuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sonia.__main__ import main
from sonia.commands import line
from sonia.version import VERSION

from .conftest import StandIn

SONIA = [sys.executable, "-m", "sonia"]
ROOT = Path(__file__).parents[3]


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0

    assert capsys.readouterr().out == f"sonia {VERSION}\n"
    assert f'version = "{VERSION}"' in (ROOT / "pyproject.toml").read_text()


def test_help_names_every_command_and_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0

    said = capsys.readouterr().out
    assert all(f"    {name} " in said for name in line.COMMANDS)
    assert "sonia chat" in said


@pytest.mark.parametrize("command", line.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0

    assert len(capsys.readouterr().out.splitlines()) > 3


@pytest.mark.parametrize("arguments", [[], ["stats"], ["stop", "--timeout", "soon"], ["config"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2

    captured = capsys.readouterr()
    assert "usage: sonia" in captured.out + captured.err


def test_one_command_imports_no_other_and_nothing_heavy(folder: Path) -> None:
    program = (
        "import sys; from sonia.__main__ import main; main(['status']);"
        "print([m for m in sys.modules if m in %r])"
    )
    heavy = (
        "sonia.commands.serve",
        "litestar",
        "structlog",
        "httpx",
        "rich",
        "filelock",
        "asyncio",
    )

    done = subprocess.run(
        [sys.executable, "-c", program % (heavy,)], capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines()[-1] == "[]"


def test_a_broken_configuration_is_one_clear_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sonia.toml").write_text("[services.pipecat]\nprot = 1\n")

    status = main(["status"])

    said = capsys.readouterr().err
    assert status == 1
    assert len(said.splitlines()) == 1
    assert "sonia.toml: services.pipecat.prot: unknown key. Did you mean 'port'?" in said


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_configuration_file_may_be_named_before_or_after_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    Path("other.toml").touch()
    named = ["--config", "other.toml"]

    status = main([*named, "config", "check"] if place == "before" else ["config", "check", *named])

    assert status == 0
    assert "other.toml" in capsys.readouterr().out


def test_a_closed_pipe_is_quiet(folder: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)

    done = subprocess.run([*SONIA, "config", "show"], stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)

    assert done.stderr == b""
    assert done.returncode == line.PIPE_CLOSED


def test_ctrl_c_is_130(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("sonia.commands.config.run_check", interrupted)

    assert main(["config", "check"]) == 130


# --- config ------------------------------------------------------------------------------


def test_config_show_tells_values_and_where_they_are_from(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SONIA__LOGGING__LEVEL", "DEBUG")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "CANARY-0123456789")

    assert main(["config", "show"]) == 0

    said = capsys.readouterr().out
    assert said.startswith(f"# {folder / 'sonia.toml'}\n")
    assert 'logging.level = "DEBUG"  # from SONIA__LOGGING__LEVEL' in said
    assert 'anthropic.api_key = "***"  # from ANTHROPIC_API_KEY' in said
    assert 'openrouter.api_key = ""' in said
    assert "CANARY" not in said


def test_config_show_as_json_loads_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show", "--json"])
    shown = capsys.readouterr().out
    Path("again.json").write_text(shown.replace(": null", ': "1"'))

    assert main(["--config", "again.json", "config", "check"]) == 0
    assert json.loads(shown)["services"]["eva_os"]["port"] == 7050


def test_config_check_fails_with_the_reason(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("sonia.toml").write_text("[logging]\nlevel = 3\n")

    assert main(["config", "check"]) == 1
    assert "logging.level: expected one of" in capsys.readouterr().err


# --- status ------------------------------------------------------------------------------


def test_status_is_0_when_all_six_are_healthy(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["status"]) == 0

    said = capsys.readouterr().out
    for name, port in stand_in.ports.items():
        assert f"{name:<14} {port:>5}  ok" in said


def test_status_is_1_and_says_why_when_one_is_not(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.ill["pipecat"] = "no microphone"

    assert main(["status", "--json"]) == 1

    told = json.loads(capsys.readouterr().out)
    states = {one["service"]: (one["ok"], one["reason"]) for one in told["services"]}
    assert states.pop("pipecat") == (False, "no microphone")
    assert set(states.values()) == {(True, None)}


def test_status_is_1_when_a_part_is_not_served_or_another_program_answers(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = dict(stand_in.ports)
    ports["openclaw"] = ports.pop("eva-os")
    stand_in.announce(ports)

    assert main(["status"]) == 1

    said = capsys.readouterr().out
    assert "not served (--only)" in said
    assert "not Sonia's answer" in said


def test_status_tells_what_is_being_fetched(
    stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    pulled = {"name": "big", "stage": "downloading", "done_bytes": 25, "total_bytes": 100}
    ready = {"name": "small", "stage": "ready", "done_bytes": 1, "total_bytes": 1}
    detail = {"weights": {"big": pulled, "small": ready}}
    stand_in.answers["GET /status"] = lambda handler, _: handler.json(200, {"detail": detail})

    assert main(["status"]) == 0

    said = capsys.readouterr().out
    assert "big: downloading 25 %" in said
    assert "small" not in said


@pytest.mark.parametrize("command", [["status"], ["chat", "hello"], ["approvals"]])
def test_nobody_running_is_3_with_a_hint(
    folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    assert main(command) == 3

    captured = capsys.readouterr()
    assert "ot running" in captured.out + captured.err


# --- stop --------------------------------------------------------------------------------

SERVER = """
import os, pathlib, signal, sys, threading
from sonia.running import Running, announce, holding
asked = threading.Event()
if "deaf" in sys.argv:
    signal.signal(signal.SIGTERM, lambda *_: None)
else:
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
data = pathlib.Path("data")
with holding(data):
    announce(data, Running(pid=os.getpid(), started_at="now", version="1",
                           host="127.0.0.1", ports={}))
    print("up", flush=True)
    asked.wait()
"""


def serving(*arguments: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    return process


def test_stop_ends_the_running_server(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = serving()

    assert main(["stop"]) == 0

    process.communicate()
    assert process.returncode == 0
    assert capsys.readouterr().out.endswith("Stopped.\n")
    assert not Path("data/run.json").exists()


def test_stop_says_when_it_is_not_heard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    process = serving("deaf")
    try:
        assert main(["stop", "--timeout", "0.1"]) == 1
    finally:
        process.kill()
        process.communicate()

    assert "still runs after 0.1 s" in capsys.readouterr().err


def test_stop_of_nobody_is_done_already(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == 0

    assert "Not running" in capsys.readouterr().out
