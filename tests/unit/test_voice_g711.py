"""The telephone's eight bits, beside FFmpeg's."""

from __future__ import annotations

import av
import numpy as np
import pytest

from sonia.voice.g711 import Law, decoded_g711, encoded_g711


@pytest.mark.parametrize(("law", "codec"), [("mulaw", "pcm_mulaw"), ("alaw", "pcm_alaw")])
def test_every_code_means_what_it_means_elsewhere(law: Law, codec: str) -> None:
    every = bytes(range(256))
    decoder = av.CodecContext.create(codec, "r")
    decoder.sample_rate, decoder.layout = 8000, "mono"
    (frame,) = decoder.decode(av.Packet(every))

    samples = decoded_g711(every, law)

    assert (samples * 32768).astype(int).tolist() == frame.to_ndarray().ravel().tolist()


@pytest.mark.parametrize("law", ["mulaw", "alaw"])
def test_what_is_coded_is_within_its_step_of_what_it_was(law: Law) -> None:
    samples = np.linspace(-1, 1, 5001).astype(np.float32)

    again = decoded_g711(encoded_g711(samples, law), law)

    assert np.abs(again - samples).max() <= 0.035
    assert np.abs(again - samples)[np.abs(samples) < 0.01].max() <= 0.0006
