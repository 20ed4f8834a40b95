"""The seam to llama.cpp (xllamacpp): one loaded model, called from threads.

Measured on this engine, and why the settings are what they are:
- Its constructor holds the interpreter's lock. Without fitting to devices and repacking of
  weights that is about half a second whatever the model's size, since the file is mapped.
- It insists on listening. On POSIX that is a socket file in a folder only this user can enter,
  elsewhere a loopback port; both want a random key.
- A prompt is evaluated `BATCH_TOKENS` at a time, and only between batches can it be stopped.
- Its threads wait for each other by spinning. With the default a second busy program makes them
  two to seven times slower; a short spin costs nothing when the cores are free.
- Its threads stand back for those that hear and speak, which keep somebody waiting for less long:
  the first clause of an answer is spoken while the rest is still being made.
- Prompts of one slot that begin differently swap through the prompt cache in memory.
- A build for CUDA, Vulkan or Metal finds the graphics card by itself. There a batch costs little,
  so prompts go in the engine's own larger ones; and the layers that don't fit stay with the
  processor, which takes the engine's fitting.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sonia.errors import Unavailable, UpstreamError
from sonia.router.interface import AnswerCut, ContextExceeded

if TYPE_CHECKING:
    import httpx

BATCH_TOKENS = 64
PROMPT_CACHE_MIB = 256
# Beside weights and context: the prompt cache, and work space for a vocabulary's worth of scores.
ENGINE_BYTES = (PROMPT_CACHE_MIB + 128) * 1_048_576
LONGEST_SOCKET_PATH = 100
SPINS = "1000"
NICE = 5

OnChunk = Callable[[dict[str, Any]], bool]

CPU = "cpu"


class Llama:
    """One model, loaded. Every method but `count_tokens` blocks: call them from threads."""

    def __init__(
        self, path: Path, *, threads: int, context_tokens: int, parallel: int, gpu: bool
    ) -> None:
        """Load the weights. Raises `Unavailable` when the engine refuses them.

        With `gpu` on the graphics card, where the installed build of the engine knows one.
        """
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # read when the engine's library loads
        import httpx
        import xllamacpp

        self.context_tokens = context_tokens
        card = graphics_card(xllamacpp.get_device_info()) if gpu else None
        self.device = card or CPU
        self._folder = Path(tempfile.mkdtemp(prefix="sonia-llama-"))
        socket = self._folder / "engine.sock"
        by_file = os.name == "posix" and len(str(socket)) <= LONGEST_SOCKET_PATH
        key = secrets.token_urlsafe(32)
        params = _params(xllamacpp, path, threads, context_tokens * parallel, parallel)
        place(params, on_card=card is not None)
        params.hostnames = [str(socket) if by_file else "127.0.0.1"]
        params.api_keys = [key]
        try:
            with ThreadPoolExecutor(1) as modest:
                self._server: Any = modest.submit(_made, xllamacpp, params).result()
        except RuntimeError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise Unavailable(
                f"llama.cpp can't load {path.name}: {error} Is it a GGUF file, and is there memory?"
            ) from error
        self._client: httpx.AsyncClient = httpx.AsyncClient(
            transport=httpx.AsyncHTTPTransport(uds=str(socket) if by_file else None),
            base_url="http://127.0.0.1" if by_file else self._server.listening_address,
            headers={"Authorization": f"Bearer {key}"},
        )

    def generate(self, body: dict[str, Any], on_chunk: OnChunk) -> None:
        """Run one completion; `on_chunk` gets OpenAI's chunks and returns True to stop it."""
        try:
            self._server.handle_chat_completions(body, on_chunk)
        except RuntimeError as error:
            raise UpstreamError(f"The local model failed: {error}") from error

    async def count_tokens(self, messages: Sequence[dict[str, str]]) -> int:
        """With the template's own tokens. May be called while the model is generating."""
        import httpx

        try:
            answer = await self._client.post(
                "/v1/chat/completions/input_tokens", json={"messages": list(messages)}
            )
            answer.raise_for_status()
            return int(answer.json()["input_tokens"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise UpstreamError("The local model could not count the prompt's tokens.") from error

    async def leave(self) -> None:
        """Drop the connection to the engine; then `close`."""
        await self._client.aclose()

    def close(self) -> None:
        """Free the memory. No call may be running."""
        self._server = None
        shutil.rmtree(self._folder, ignore_errors=True)


def _made(xllamacpp: Any, params: Any) -> Any:
    """The engine, whose threads inherit how this one stands back for others."""
    if sys.platform == "linux":  # elsewhere niceness is a whole process's
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
    return xllamacpp.Server(params)


def _params(xllamacpp: Any, path: Path, threads: int, total_tokens: int, parallel: int) -> Any:
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel = total_tokens, parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.n_threads_http = 1
    params.warmup = False
    params.no_extra_bufts = True
    params.ui = params.endpoint_slots = params.endpoint_props = False
    params.verbosity = -1
    return params


def place(params: Any, *, on_card: bool) -> None:
    """Set what depends on where the model is to be loaded."""
    params.fit_params = on_card
    if not on_card:
        params.n_batch = params.n_ubatch = BATCH_TOKENS
        params.n_gpu_layers = 0
        params.no_kv_offload = params.no_op_offload = True


def graphics_card(devices: Sequence[dict[str, Any]]) -> str | None:
    """What the one is called that the engine takes, e.g. "NVIDIA H100 80GB HBM3".

    It takes an integrated one only where there is no other. None without any.
    """
    for kind in ("_GPU", "_IGPU"):
        for device in devices:
            if device["type"].name.endswith(kind):
                return str(device["description"] or device["name"])
    return None


def refuse(error: dict[str, Any]) -> None:
    """Raise what the engine answered instead of text."""
    if error.get("type") == "exceed_context_size_error":
        prompt, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
        raise ContextExceeded(
            f"The prompt is {prompt} tokens and the model's context {limit}. Shorten it.",
            prompt_tokens=prompt,
            context_tokens=limit,
        )
    raise UpstreamError(f"The local model refused the request: {error.get('message', 'unknown')}")


def cut() -> AnswerCut:
    """The engine stopped without saying why."""
    return AnswerCut("The local model stopped in the middle of its answer.")
