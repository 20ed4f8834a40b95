"""Opus packets: what goes in comes out again, and what is no packet is refused."""

from __future__ import annotations

import numpy as np
import pytest

from sonia.errors import InvalidRequest
from sonia.voice.opus import DECODED_HZ, OpusDecoder, OpusEncoder
from sonia.voice.speech import Samples


def tone(seconds: float, rate_hz: int) -> Samples:
    at = np.arange(int(seconds * rate_hz)) / rate_hz
    return np.asarray(0.3 * np.sin(2 * np.pi * 300 * at), np.float32)


def loudest_hz(sound: Samples) -> float:
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
    return float(np.argmax(spectrum)) * DECODED_HZ / len(sound)


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000, 48_000])
def test_a_tone_is_heard_again_at_its_height_and_length(rate_hz: int) -> None:
    encoder, decoder = OpusEncoder(rate_hz), OpusDecoder()
    sound = tone(1.0, rate_hz)

    pieces = [sound[at : at + 700] for at in range(0, len(sound), 700)]
    packets = [packet for piece in pieces for packet in encoder.feed(piece)]
    heard = np.concatenate([decoder.feed(packet) for packet in packets])

    assert len(packets) == 50
    assert len(heard) == DECODED_HZ
    assert loudest_hz(heard) == pytest.approx(300, abs=2)
    assert np.abs(heard[DECODED_HZ // 10 :]).max() == pytest.approx(0.3, abs=0.05)


@pytest.mark.parametrize(
    "junk", [b"", b"\xff" * 5000, b"\x03", b"\x00" * 70_000], ids=["none", "noise", "short", "long"]
)
def test_what_is_no_packet_is_refused_and_the_next_one_is_heard(junk: bytes) -> None:
    decoder = OpusDecoder()
    (packet,) = OpusEncoder(16_000).feed(tone(0.02, 16_000))

    with pytest.raises(InvalidRequest, match="Opus"):
        decoder.feed(junk)

    assert len(decoder.feed(packet)) == DECODED_HZ // 50
