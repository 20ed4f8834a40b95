"""Silero VAD on ONNX Runtime: whether 32 ms of sound hold speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from sonia.voice.engines.loading import Engine, WeightsSource
from sonia.voice.speech import EAR_RATE, WINDOW, Samples

CONTEXT = 64  # samples of the window before, which the model is shown again
QUIET = 0.2
# The network's memory drifts in long noise and then hears speech late: it is emptied so often.
RESET_WINDOWS = 2 * EAR_RATE // WINDOW


class Carried(msgspec.Struct):
    """What one stream hands from window to window."""

    state: Any
    context: Any
    quiet: int = 0

    @classmethod
    def fresh(cls) -> Carried:
        """Of a stream in which nothing was heard yet."""
        return cls(np.zeros((2, 1, 128), np.float32), np.zeros(CONTEXT, np.float32))


class Silero:
    """The model, loaded. Blocks; call it from one thread at a time."""

    def __init__(self, files: dict[str, Path]) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        (path,) = files.values()
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self._rate = np.array(EAR_RATE, np.int64)

    def hear(self, window: Samples, carried: Carried) -> float:
        """The probability of speech in the next window of a stream."""
        if carried.quiet >= RESET_WINDOWS:
            fresh = Carried.fresh()
            carried.state, carried.context, carried.quiet = fresh.state, fresh.context, 0
        sound = np.concatenate([carried.context, window])[None, :]
        output, carried.state = self._session.run(
            None, {"input": sound, "state": carried.state, "sr": self._rate}
        )
        carried.context = window[-CONTEXT:]
        probability = float(output[0][0])
        carried.quiet = carried.quiet + 1 if probability < QUIET else 0
        return probability


class SileroStream:
    """`SpeechStream` of one speaker."""

    def __init__(self, engine: Engine[Silero]) -> None:
        self._engine = engine
        self._carried = Carried.fresh()

    async def speaking(self, window: Samples) -> float:
        """See `SpeechStream.speaking`."""
        return await self._engine.run(Silero.hear, window, self._carried)


class SileroDetector:
    """`SpeechDetector` on the weights of the catalogue, loaded at the first use."""

    def __init__(self, weights: WeightsSource, model: str = "silero-vad-v6") -> None:
        self.model = model
        self._engine = Engine(weights, (model,), Silero)

    @property
    def state(self) -> str:
        """See `SpeechDetector.state`."""
        return self._engine.state

    async def load(self) -> None:
        """See `SpeechDetector.load`."""
        await self._engine.load()

    def stream(self) -> SileroStream:
        """See `SpeechDetector.stream`."""
        return SileroStream(self._engine)

    async def close(self) -> None:
        """Let the model go."""
        await self._engine.close()
