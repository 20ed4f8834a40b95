"""Smart Turn v3.2 on ONNX Runtime: whether somebody who pauses has finished.

It hears the melody of the last 8 seconds, not the words.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sonia.voice.engines.loading import Engine, WeightsSource
from sonia.voice.speech import EAR_RATE, Samples

LONGEST = 8 * EAR_RATE
FLOOR = 1e-7


class SmartTurn:
    """The model, loaded. Blocks; call it from one thread at a time."""

    def __init__(self, files: dict[str, Path]) -> None:
        import onnxruntime
        from faster_whisper.feature_extractor import FeatureExtractor

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        (path,) = files.values()
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._features = FeatureExtractor(chunk_length=8)

    def judge(self, samples: Samples) -> float:
        """The probability that these are a turn's last words."""
        sound = np.zeros(LONGEST, np.float32)
        said = samples[-LONGEST:]
        if len(said):
            sound[-len(said) :] = said
        sound = (sound - sound.mean()) / np.sqrt(sound.var() + FLOOR)
        mel = self._features(sound, padding=0)[None, :, :800]
        (output, *_) = self._session.run(None, {"input_features": mel.astype(np.float32)})
        return float(np.ravel(output)[0])


class SmartTurnJudge:
    """`TurnJudge` on the weights of the catalogue, loaded at the first use."""

    def __init__(self, weights: WeightsSource, model: str = "smart-turn-v3.2") -> None:
        self.model = model
        self._engine = Engine(weights, (model,), SmartTurn)

    @property
    def state(self) -> str:
        """See `TurnJudge.state`."""
        return self._engine.state

    async def load(self) -> None:
        """See `TurnJudge.load`."""
        await self._engine.load()

    async def finished(self, samples: Samples) -> float:
        """See `TurnJudge.finished`."""
        return await self._engine.run(SmartTurn.judge, samples)

    async def close(self) -> None:
        """Let the model go."""
        await self._engine.close()
