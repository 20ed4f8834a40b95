"""A stock pipecat pipeline to compare with: `python benchmarks/voice_stock.py '{…}'`.

Started by `benchmarks.voice_to_voice` with the Python of a venv of its own, and told as JSON where
the weights are and what the model is told of itself; it needs nothing of Sonia.

Pipecat's own services as its documentation joins them, on the weights that Sonia has: Whisper base
(faster-whisper, int8), Silero, Smart Turn v3.2, Kokoro int8, and Qwen 0.5B behind llama.cpp's
server with OpenAI's API. No tools and no memory. One client at a time, raw 16-bit sound at 16,000
samples a second both ways; `{"type": "COMMIT", "text": …}` tells that a turn is held to be over.
Prints its port once everything is loaded.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xllamacpp
from loguru import logger

logger.remove()
logger.add(sys.stderr, level="ERROR")

from pipecat.audio.vad.silero import SileroVADAnalyzer  # noqa: E402
from pipecat.frames.frames import (  # noqa: E402
    Frame,
    InputAudioRawFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.pipeline.pipeline import Pipeline  # noqa: E402
from pipecat.pipeline.worker import PipelineParams, PipelineWorker  # noqa: E402
from pipecat.processors.aggregators.llm_context import LLMContext  # noqa: E402
from pipecat.processors.aggregators.llm_response_universal import (  # noqa: E402
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.serializers.base_serializer import FrameSerializer  # noqa: E402
from pipecat.services.kokoro.tts import KokoroTTSService  # noqa: E402
from pipecat.services.openai.llm import OpenAILLMService  # noqa: E402
from pipecat.services.whisper.stt import WhisperSTTService  # noqa: E402
from pipecat.transports.websocket.server import (  # noqa: E402
    SingleClientWebsocketServerParams,
    SingleClientWebsocketServerTransport,
)
from pipecat.workers.runner import WorkerRunner  # noqa: E402

RATE = 16_000
MODEL = "qwen2.5-coder-0.5b-instruct"
THREADS = 2


class Raw(FrameSerializer):
    """Sound as it is, messages as JSON."""

    async def serialize(self, frame: Frame) -> str | bytes | None:
        """What goes to the client."""
        if isinstance(frame, OutputAudioRawFrame):
            return frame.audio
        if isinstance(frame, OutputTransportMessageUrgentFrame):
            return json.dumps(frame.message)
        return None

    async def deserialize(self, data: str | bytes) -> Frame | None:
        """What comes from it; only sound does."""
        if isinstance(data, bytes):
            return InputAudioRawFrame(audio=data, sample_rate=RATE, num_channels=1)
        return None


def model_server(path: Path, key: str) -> Any:
    """llama.cpp's server as it comes, with as many threads as Sonia's."""
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = [MODEL]
    params.n_ctx, params.n_parallel = 8192, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = THREADS
    params.hostnames, params.port, params.api_keys = ["127.0.0.1"], free_port(), [key]
    params.ui = False
    params.verbosity = -1
    return xllamacpp.Server(params)


def free_port() -> int:
    """One that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def voices_file(folder: Path, files: list[str]) -> Path:
    """Sonia's files of voices as the one that kokoro-onnx reads."""
    path = folder / "voices.npz"
    styles = {Path(file).stem: np.fromfile(file, np.float32).reshape(-1, 1, 256) for file in files}
    np.savez(path, **styles)
    return path


async def serve(given: dict[str, Any], folder: Path) -> None:
    """Load everything, say where, and talk until ended."""
    key, port = secrets.token_urlsafe(16), free_port()
    model = model_server(Path(given["model"]), key)
    transport = SingleClientWebsocketServerTransport(
        params=SingleClientWebsocketServerParams(
            serializer=Raw(),
            audio_in_enabled=True,
            audio_out_enabled=True,
            audio_in_sample_rate=RATE,
            audio_out_sample_rate=RATE,
        ),
        host="127.0.0.1",
        port=port,
    )
    hearing = WhisperSTTService(
        device="cpu",
        compute_type="int8",
        settings=WhisperSTTService.Settings(model=given["whisper"]),
    )
    answering = OpenAILLMService(
        api_key=key,
        base_url=f"{model.listening_address}/v1",
        settings=OpenAILLMService.Settings(
            model=MODEL, temperature=0.0, system_instruction=given["system"]
        ),
    )
    speaking = KokoroTTSService(
        model_path=given["kokoro"],
        voices_path=str(voices_file(folder, given["voices"])),
        settings=KokoroTTSService.Settings(voice="af_heart"),
    )
    context = LLMContextAggregatorPair(
        LLMContext(),
        user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()),
    )
    parts = [transport.input(), hearing, context.user(), answering, speaking]
    worker = PipelineWorker(
        Pipeline([*parts, transport.output(), context.assistant()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
        enable_rtvi=False,
        idle_timeout_secs=None,
    )

    @context.user().event_handler("on_user_turn_stopped")
    async def _(_aggregator: Any, _strategy: Any, message: Any) -> None:
        told = {"type": "COMMIT", "text": str(message.content)}
        await worker.queue_frames([OutputTransportMessageUrgentFrame(message=told)])

    @worker.event_handler("on_pipeline_started")
    async def _(*_: Any) -> None:
        print(f"PORT {port}", flush=True)

    runner = WorkerRunner(handle_sigint=False, handle_sigterm=True)
    await runner.add_workers(worker)
    await runner.run()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        asyncio.run(serve(json.loads(sys.argv[1]), Path(scratch)))
