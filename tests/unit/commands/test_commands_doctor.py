"""The doctor finds what is wrong, and says what to do; whatever the patient's state."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from sonia.__main__ import main
from sonia.commands import examinations
from sonia.commands.doctor import examine
from sonia.commands.examinations import GROUPS, Finding, Mark, Subject
from sonia.config import parse
from tests.standing_in import StandInServer

from .conftest import StandIn

Capture = pytest.CaptureFixture[str]


def findings(group: str, raw: dict[str, object] | None = None) -> list[Finding]:
    config = parse(raw or {}, root=str(Path.cwd()))
    return list(dict(GROUPS)[group](Subject(config)))


def test_every_group_of_the_guide_is_examined(folder: Path, capsys: Capture) -> None:
    main(["doctor"])

    titles = [line for line in capsys.readouterr().out.splitlines() if not line.startswith(" ")]
    assert titles[:-1] == [
        "Foundations",
        "Dependencies",
        "Services",
        "Upstream",
        "Logs",
        "System",
    ]


def test_a_broken_configuration_is_a_finding(folder: Path, capsys: Capture) -> None:
    Path("sonia.toml").write_text("[logging]\nlevel = 'loud'\n")

    assert main(["doctor"]) == 1

    said = capsys.readouterr().out
    assert "✗ Configuration: " in said
    assert 'logging.level: expected one of "DEBUG"' in said


def test_a_running_server_is_examined_service_by_service(
    stand_in: StandIn, capsys: Capture
) -> None:
    stand_in.ill["memory-engine"] = "the disk is full"

    assert main(["doctor"]) == 1

    said = capsys.readouterr().out
    assert f"✗ memory-engine ({stand_in.ports['memory-engine']}): the disk is full" in said
    assert f"✓ eva-os answers on {stand_in.ports['eva-os']}" in said
    assert "memory-engine.log" in said


def test_a_port_that_another_program_holds_is_named(folder: Path) -> None:
    with StandInServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as squatter:
        raw = {"services": {"pipecat": {"port": squatter.server_address[1]}}}

        found = findings("Services", raw)

    wrong = [one for one in found if one.mark is Mark.WRONG and "(pipecat)" in one.what]
    assert len(wrong) == 1
    assert "services.pipecat.port" in wrong[0].advice
    assert "held by" in wrong[0].what


def test_the_installed_packages_are_the_required_ones(folder: Path) -> None:
    assert [one.mark for one in findings("Dependencies")] == [Mark.WELL]


def test_a_missing_or_old_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["msgspec>=99", "no-such-package-here", "pytest; sys_platform == 'nowhere'"]
    monkeypatch.setattr(examinations, "_requirements", lambda: wanted)

    found = findings("Dependencies")

    assert [one.mark for one in found] == [Mark.WRONG, Mark.WRONG]
    assert ">=99 is required" in found[0].what
    assert "no-such-package-here is missing" in found[1].what


def test_a_token_that_others_can_read_is_wrong(folder: Path) -> None:
    Path("data").mkdir(mode=0o700)
    Path("data/operator.token").touch(mode=0o644)
    Path("data/operator.token").chmod(0o644)

    wrong = [one for one in findings("Foundations") if one.mark is Mark.WRONG]

    assert len(wrong) == 1
    assert wrong[0].advice.startswith("chmod 600 ")


def test_a_folder_that_can_not_be_made_is_wrong(folder: Path) -> None:
    Path("file").touch()

    found = findings("Foundations", {"paths": {"data": "file/data"}})

    assert [one.what for one in found if one.mark is Mark.WRONG] == [
        f"paths.data: {folder / 'file/data'} can't be made"
    ]


def test_a_profile_whose_provider_is_not_set_up_is_wrong(folder: Path) -> None:
    models = ["anthropic/claude", "ollama/llama", "local/qwen2.5-coder-0.5b-instruct"]
    router = {"profiles": {"chat_low_latency": models}}

    wrong = [
        one
        for one in findings("Upstream", {"services": {"model_router": router}})
        if one.mark is Mark.WRONG
    ]

    assert [one.what for one in wrong] == [
        "ollama: a profile names it and no base_url is set",
        "anthropic: a profile names it and no key is set",
    ]
    assert "ANTHROPIC_API_KEY" in wrong[1].advice


def test_weights_that_are_not_here_are_told_with_the_command(folder: Path) -> None:
    found = findings("Upstream", {"paths": {"models": "none"}})

    assert [one.mark for one in found] == [Mark.WORTH_KNOWING] * 2
    assert all("sonia models pull" in one.advice for one in found)


class Tags(BaseHTTPRequestHandler):
    """As much of Ollama as the doctor asks for."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/api/tags" else 404)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_ollama_is_asked_when_it_is_configured(folder: Path) -> None:
    with StandInServer(("127.0.0.1", 0), Tags) as ollama:
        serving = threading.Thread(target=ollama.handle_request)
        serving.start()
        url = f"http://127.0.0.1:{ollama.server_address[1]}"
        raw = {"services": {"model_router": {"providers": {"ollama": {"base_url": url}}}}}

        answered = findings("Upstream", raw)[-1]
        serving.join()
    gone = findings("Upstream", raw)[-1]

    assert (answered.mark, gone.mark) == (Mark.WELL, Mark.WORTH_KNOWING)
    assert "does not answer" in gone.what


def test_logs_that_can_not_be_written_are_wrong(folder: Path) -> None:
    Path("logs").touch()

    assert [one.mark for one in findings("Logs")] == [Mark.WRONG]


def test_little_disk_is_worth_knowing_and_none_is_wrong(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examinations, "LOW_DISK_BYTES", 1 << 62)
    low = findings("System")[0]
    monkeypatch.setattr(examinations, "NO_DISK_BYTES", 1 << 62)
    none = findings("System")[0]

    assert (low.mark, none.mark) == (Mark.WORTH_KNOWING, Mark.WRONG)


def test_an_examination_that_hangs_or_fails_is_a_finding(folder: Path) -> None:
    release = threading.Event()

    def hangs(_: Subject) -> Iterator[Finding]:
        release.wait()
        yield Finding(Mark.WELL, "late")

    def fails(_: Subject) -> Iterator[Finding]:
        yield Finding(Mark.WELL, "first")
        raise RuntimeError("odd")

    groups = (("Hangs", hangs), ("Fails", fails))
    found = dict(examine(Subject(parse({})), groups, patience_s=0.05))
    release.set()

    assert "No answer within" in found["Hangs"][0].what
    assert [one.mark for one in found["Fails"]] == [Mark.WELL, Mark.WRONG]
    assert "RuntimeError: odd" in found["Fails"][1].what
