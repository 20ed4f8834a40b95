"""Talking with her, with the real weights: a question in sound, the answer in sound."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.client import connect

from sonia.voice import decoded
from sonia.voice.speech import to_pcm
from tests.e2e.conftest import ROOT, Server

SPEECH = ROOT.parent / "shared" / "data" / "speech"
CLIP = SPEECH / "cognitive-services-speech-sdk__whatstheweatherlike.flac"


def question(path: Path) -> bytes:
    with path.open("rb") as file:
        said = decoded(file, longest_s=10)
    return to_pcm(np.concatenate([said, np.zeros(32_000, np.float32)]))


async def ask(url: str, pcm: bytes) -> tuple[list[dict[str, Any]], bytes]:
    """Send a question, listen for half a second, interrupt; what was told, and her voice."""
    told: list[dict[str, Any]] = []
    sound = b""
    async with connect(url, proxy=None) as socket:
        for at in range(0, len(pcm), 6400):
            await socket.send(pcm[at : at + 6400])
        while not told or told[-1]["type"] != "INTERRUPTED":
            got = await asyncio.wait_for(socket.recv(), 100)
            if isinstance(got, bytes):
                sound += got
                if len(sound) - len(got) < 16_000 <= len(sound):
                    await socket.send(json.dumps({"type": "INTERRUPT"}))
            else:
                told.append(json.loads(got))
    return told, sound


def test_a_question_in_sound_is_answered_in_sound_and_what_was_heard_is_kept(
    server: Server,
) -> None:
    with server.client("pipecat") as http:
        body = {"sample_rate": 16_000}
        session = http.post("/session/start", json=body).json()["data"]

        told, sound = asyncio.run(ask(session["ws_url"], question(CLIP)))

    kinds = [one["type"] for one in told]
    (transcript,) = [one["data"] for one in told if one["type"] == "TRANSCRIPT"]
    with server.client() as http:
        url = f"/v1/sessions/{session['session_id']}/history"
        history = http.get(url).json()["data"]
    assert kinds[:2] == ["SESSION_START", "STATUS"]
    assert "weather like" in transcript["text"].lower()
    assert transcript["start_ms"] < transcript["end_ms"] <= 2000
    assert np.abs(np.frombuffer(sound, "<i2")).max() > 1000
    heard = told[-1]["data"]["spoken_text"]
    assert heard in "".join(one["data"]["text"] for one in told if one["type"] == "RESPONSE_DELTA")
    assert heard
    assert [row["content"] for row in history] == [transcript["text"], heard]
