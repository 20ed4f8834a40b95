"""Kokoro's graph rewritten, beside the graph as it is, on the real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from sonia.config import Config
from sonia.voice.engines.kokoro_frames import FRAME, Kokoro, windows
from sonia.voice.engines.kokoro_graph import UnknownGraph, halves
from sonia.voice.speech import Samples
from sonia.weights import Weights

TEXT = "The kettle is on."


async def files() -> tuple[dict[str, Path], dict[str, Path]]:
    weights = Weights(Config().models)
    return await weights.ensure("kokoro-82m-int8"), await weights.ensure("kokoro-voices")


def spoken(kokoro: Kokoro) -> Samples:
    (clause,) = kokoro.prepare(TEXT, "en-us", "af_heart", 1.0)
    (window,) = windows(clause.frames, ())
    return kokoro.render(clause, window)


def loudness(sound: Samples) -> NDArray[np.float32]:
    """Of each frame, in decibels."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    return 10 * np.log10(np.mean(np.square(frames), axis=1) + 1e-7)


@pytest.mark.timeout(300)
async def test_the_rewritten_graph_says_the_same_as_the_one_as_it_is() -> None:
    model, voices = await files()

    quick = spoken(Kokoro(model, voices))
    plain = spoken(Kokoro(model, voices, quick=False))

    long, short = loudness(plain), loudness(quick)
    spare = len(long) - len(short)
    alike = [np.corrcoef(long[at : at + len(short)], short)[0, 1] for at in range(spare)]
    assert spare > 0  # the silence around is not made
    assert max(alike) > 0.97


async def test_a_model_of_other_make_is_not_rewritten(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "abc"]
    add = helper.make_node("Sum", ["a", "b", "c"], ["x"])
    path = tmp_path / "other.onnx"
    onnx.save(helper.make_model(helper.make_graph([add], "other", inputs, [shape])), str(path))

    with pytest.raises(UnknownGraph):
        halves(path)
