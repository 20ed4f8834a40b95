"""`sonia talk` with the real server, the real ears and the real voice, by files."""

from __future__ import annotations

import subprocess
import sys
import wave
from pathlib import Path

import pytest

from tests.e2e.conftest import Server


def sonia(server: Server, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sonia", *words],
        cwd=server.cwd,
        env=server.environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )


def seconds(path: Path) -> float:
    with wave.open(str(path), "rb") as file:
        return file.getnframes() / file.getframerate()


@pytest.mark.timeout(900)
def test_what_is_spoken_in_a_file_is_answered_aloud(server: Server, tmp_path: Path) -> None:
    question, answer = tmp_path / "question.wav", tmp_path / "answer.wav"
    made = sonia(server, "say", "What is the capital of France?", "-o", str(question))
    assert made.returncode == 0, made.stderr

    done = sonia(server, "talk", "--input", str(question), "--output", str(answer))

    assert done.returncode == 0, done.stderr
    you, hers, *_ = (done.stdout + done.stderr).splitlines()
    assert "capital of france" in you.lower()
    assert "paris" in hers.lower(), done
    assert seconds(answer) > 0.5


def test_a_file_of_another_form_is_refused(server: Server, tmp_path: Path) -> None:
    stereo = tmp_path / "stereo.wav"
    with wave.open(str(stereo), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(bytes(400))

    done = sonia(server, "talk", "--input", str(stereo), "--output", str(tmp_path / "no.wav"))

    assert done.returncode == 1
    assert "Give one channel, 16 bits, and 8000, 16000, 24000, 48000." in done.stderr
