"""Speech written down and text spoken, with the official client and the real weights."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from benchmarks.speech import edits, words
from sonia.voice import decoded, to_pcm
from tests.e2e.conftest import ROOT, Server

SPEECH = ROOT.parent / "shared" / "data" / "speech"
SENTENCE = "The quick brown fox jumps over the lazy dog. It was a bright cold day in April."


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url()}/v1", api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def spoken(client: openai.OpenAI) -> bytes:
    """The sentence as mp3; the first use loads the voice, and pulls it if need be."""
    return client.audio.speech.create(model="tts-1", voice="alloy", input=SENTENCE).read()


def errors(said: str, heard: str) -> float:
    """Word error rate: edits per word said."""
    return edits(words(said), words(heard)) / len(words(said))


def test_what_is_spoken_can_be_written_down_again(client: openai.OpenAI, spoken: bytes) -> None:
    heard = client.audio.transcriptions.create(model="whisper-1", file=("speech.mp3", spoken))

    assert errors(SENTENCE, heard.text) < 0.1
    assert heard.usage is not None
    assert heard.usage.type == "duration"
    assert heard.usage.seconds == pytest.approx(
        len(decoded(io.BytesIO(spoken), longest_s=60)) / 16_000, abs=0.1
    )


async def test_what_is_said_in_a_realtime_session_is_written_down(
    server: Server, spoken: bytes
) -> None:
    pcm = to_pcm(decoded(io.BytesIO(spoken), longest_s=60))
    form = {"type": "audio/pcm", "rate": 16_000}
    audio: Any = {"input": {"format": form, "turn_detection": None}}
    async with (
        openai.AsyncOpenAI(base_url=f"{server.url()}/v1", api_key="none") as client,
        client.realtime.connect(model="sonia") as talk,
    ):
        await talk.session.update(session={"type": "realtime", "audio": audio})
        for at in range(0, len(pcm), 64_000):
            part = base64.b64encode(pcm[at : at + 64_000]).decode()
            await talk.input_audio_buffer.append(audio=part)
        await talk.input_audio_buffer.commit()
        said = ""
        async for event in talk:
            if event.type == "conversation.item.input_audio_transcription.completed":
                said = event.transcript
                break

    assert errors(SENTENCE, said) < 0.1


def test_words_have_times(client: openai.OpenAI, spoken: bytes) -> None:
    told = client.audio.transcriptions.create(
        model="whisper-1",
        file=("speech.mp3", spoken),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
    )

    assert told.language == "english"
    assert told.words
    assert told.segments
    starts = [word.start for word in told.words]
    assert starts == sorted(starts)
    assert all(0 <= w.start <= w.end <= told.duration for w in told.words)
    assert len(told.segments) == 2
    assert told.segments[1].start > told.segments[0].start


def test_captions_and_plain_text(client: openai.OpenAI, spoken: bytes) -> None:
    text, srt, vtt = (
        client.audio.transcriptions.create(
            model="whisper-base", file=("speech.mp3", spoken), response_format=form
        )
        for form in ("text", "srt", "vtt")
    )

    assert errors(SENTENCE, str(text)) < 0.1
    assert re.match(r"1\n00:00:0\d,\d{3} --> 00:00:0\d,\d{3}\nThe", str(srt))
    assert str(vtt).startswith("WEBVTT\n\n00:00:0")


def test_a_transcript_can_be_streamed(client: openai.OpenAI, spoken: bytes) -> None:
    events = list(
        client.audio.transcriptions.create(
            model="whisper-1", file=("speech.mp3", spoken), stream=True
        )
    )

    assert [event.type for event in events] == ["transcript.text.delta", "transcript.text.done"]
    assert errors(SENTENCE, events[-1].text) < 0.1


@pytest.mark.parametrize(
    ("name", "language"),
    [("cheetah__test_de.flac", "german"), ("cheetah__test_es.flac", "spanish")],
)
def test_the_language_is_recognised(client: openai.OpenAI, name: str, language: str) -> None:
    told = client.audio.transcriptions.create(
        model="whisper-1", file=SPEECH / name, response_format="verbose_json"
    )

    assert told.language == language


def test_real_speech_is_heard(client: openai.OpenAI) -> None:
    rows = [r for r in json.loads((SPEECH / "manifest.json").read_text()) if r["set"] == "wer"]
    english = [row for row in rows if row["lang"] == "en"][:8]

    rates = [
        errors(
            row["text"],
            client.audio.transcriptions.create(model="whisper-1", file=SPEECH / row["file"]).text,
        )
        for row in english
    ]

    assert sum(rates) / len(rates) < 0.2


@pytest.mark.parametrize("form", ["opus", "aac", "flac", "wav"])
def test_every_format_is_what_it_says(client: openai.OpenAI, form: str) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="kokoro", voice="af_heart", input="Hello there, my friend.", response_format=form
    ) as answer:
        kind = answer.headers["content-type"]
        sound = decoded(io.BytesIO(answer.read()), longest_s=60)

    assert kind == {"opus": "audio/ogg"}.get(form, f"audio/{form}")
    assert 0.8 < len(sound) / 16_000 < 4


def test_speech_can_be_streamed_as_events(server: Server) -> None:
    body = {
        "model": "tts-1",
        "voice": "nova",
        "input": SENTENCE,
        "stream_format": "sse",
        "response_format": "pcm",
    }
    with server.client() as http:
        answer = http.post("/v1/audio/speech", json=body)
    events = [
        json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")
    ]

    assert [event["type"] for event in events[-2:]] == ["speech.audio.delta", "speech.audio.done"]
    assert events[-1]["usage"]["output_tokens"] > 100


def test_what_is_wrong_is_said(client: openai.OpenAI, spoken: bytes) -> None:
    hear, say = client.audio.transcriptions.create, client.audio.speech.create

    with pytest.raises(openai.BadRequestError, match="no sound that can be read"):
        hear(model="whisper-1", file=("notes.txt", b"not a sound"))
    with pytest.raises(openai.BadRequestError, match="no sound that can be read"):
        hear(model="whisper-1", file=("empty.wav", b""))
    with pytest.raises(openai.NotFoundError, match="whisper-base"):
        hear(model="whisper-9", file=("speech.mp3", spoken))
    with pytest.raises(openai.BadRequestError, match="ISO 639-1"):
        hear(model="whisper-1", file=("speech.mp3", spoken), language="xx")
    with pytest.raises(openai.BadRequestError, match="af_heart"):
        say(model="tts-1", voice="nobody", input="Hello.")
    with pytest.raises(openai.BadRequestError, match="nothing in the text"):
        say(model="tts-1", voice="alloy", input="… — !")
    with pytest.raises(openai.BadRequestError):
        say(model="tts-1", voice="alloy", input="Hello.", speed=9)


def test_the_commands(server: Server, tmp_path: Path, spoken: bytes) -> None:
    voices = server.command("say", "--voices")
    said = server.command("say", "Good morning to you.", "-o", str(tmp_path / "hello.wav"))
    heard = server.command("transcribe", str(tmp_path / "hello.wav"))
    missing = server.command("transcribe", str(tmp_path / "none.wav"))
    (tmp_path / "notes.txt").write_text("hello")
    wrong = server.command("transcribe", str(tmp_path / "notes.txt"), "--format", "srt")

    assert re.search(r"^af_heart +en-US +female$", voices.stdout, re.MULTILINE)
    assert said.returncode == 0, said.stderr
    assert heard.stdout.strip().lower().startswith("good morning to you")
    assert (missing.returncode, wrong.returncode) == (1, 1)
    assert "can't be read" in missing.stderr
    assert "no sound that can be read" in wrong.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hello.wav", "notes.txt"]
