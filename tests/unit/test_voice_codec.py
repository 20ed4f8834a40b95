"""Sound files: what goes out comes back, and what is no sound is said to be none."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from sonia.voice import FORMATS, Encoder, decoded
from sonia.voice.codec import stretched
from sonia.voice.engines.kokoro import clauses
from sonia.voice.engines.whisper import sentences, unrepeated, windows
from sonia.voice.speech import AudioTooLong, NotAudio, Samples, Word


def tone(seconds: float, hertz: float = 440.0, rate: int = 24_000) -> Samples:
    times = np.arange(int(seconds * rate)) / rate
    return (0.4 * np.sin(2 * np.pi * hertz * times)).astype(np.float32)


def pitch(samples: Samples, rate: int) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * rate / len(samples))


@pytest.mark.parametrize("name", [name for name in FORMATS if name != "pcm"])
def test_every_format_can_be_read_again(name: str) -> None:
    sound = tone(1.5)
    encoder = Encoder(name)

    data = encoder.feed(sound[:7_000]) + encoder.feed(sound[7_000:]) + encoder.end()
    again = decoded(BytesIO(data), longest_s=10)

    assert len(again) / 16_000 == pytest.approx(1.5, abs=0.12)
    assert pitch(again, 16_000) == pytest.approx(440, abs=3)


def test_raw_samples_are_little_endian_16_bit() -> None:
    encoder = Encoder("pcm")

    data = encoder.feed(np.array([0.0, 1.0, -1.0, 2.0], np.float32)) + encoder.end()

    assert np.frombuffer(data, "<i2").tolist() == [0, 32767, -32767, 32767]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/hostname\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"RIFF" + b"\0" * 100,
        b"\x00" * 4096,
    ],
    ids=["empty", "text", "playlist", "concat", "broken wav", "zeros"],
)
def test_what_is_no_sound_is_refused(data: bytes) -> None:
    with pytest.raises(NotAudio, match=r"wav, mp3|no sound"):
        decoded(BytesIO(data), longest_s=10)


def test_a_playlist_reads_no_other_file(tmp_path: Path) -> None:
    encoder = Encoder("mp3")
    song = tmp_path / "song.mp3"
    song.write_bytes(encoder.feed(tone(1)) + encoder.end())
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{song}\n#EXT-X-ENDLIST\n"

    with pytest.raises(NotAudio):
        decoded(BytesIO(playlist.encode()), longest_s=10)


def test_what_is_too_long_is_refused() -> None:
    encoder = Encoder("flac")
    data = encoder.feed(np.zeros(24_000 * 12, np.float32)) + encoder.end()

    with pytest.raises(AudioTooLong) as caught:
        decoded(BytesIO(data), longest_s=10)

    assert caught.value.details["limit_s"] == 10


@pytest.mark.parametrize("tempo", [0.3, 0.5, 2.0])
def test_stretched_sound_keeps_its_pitch(tempo: float) -> None:
    sound = stretched(tone(2.0), tempo)

    assert len(sound) / 24_000 == pytest.approx(2.0 / tempo, rel=0.05)
    assert pitch(sound, 24_000) == pytest.approx(440, abs=5)


def test_long_sound_is_cut_where_it_is_quiet() -> None:
    sound = np.concatenate(
        [tone(25, rate=16_000), np.zeros(16_000, np.float32), tone(30, rate=16_000)]
    )

    (first, second, *rest) = windows(sound)

    assert 25 * 16_000 <= first[1] <= 26 * 16_000
    assert [first[0], second[0]] == [0, first[1]]
    assert (rest[-1] if rest else second)[1] == len(sound)
    assert all(end - start <= 28 * 16_000 for start, end in windows(sound))


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("turn on the lights turn on the lights turn on the", "turn on the lights"),
        ("no no no", "no no no"),
        ("yes yes yes yes yes yes", "yes"),
        ("that is what it is", "that is what it is"),
        ("", ""),
    ],
)
def test_an_utterance_said_again_and_again_is_cut(said: str, kept: str) -> None:
    assert unrepeated(said) == kept


def test_segments_end_with_a_sentence_or_a_pause() -> None:
    words = [
        Word(word=text, start=start, end=start + 0.2)
        for text, start in [("Hello.", 0.0), ("How", 0.3), ("now", 0.6), ("cow", 3.0)]
    ]

    assert [[w.word for w in group] for group in sentences(words)] == [
        ["Hello."],
        ["How", "now"],
        ["cow"],
    ]


def test_a_long_first_sentence_begins_with_a_clause_of_its_own() -> None:
    text = (
        "When the long night was over, we went on through the cold and empty valley until noon. "
        "Then we slept."
    )

    parts = [clause for clause, _ in clauses(text)]

    assert parts[0] == "When the long night was over,"
    assert " ".join(parts) == text
