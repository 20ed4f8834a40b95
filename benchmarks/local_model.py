"""The default local model beside llama.cpp's own server: `python -m benchmarks.local_model`.

The same weights, threads, context and settings of the engine, in turns so that a busy machine
is busy for both. `server` is llama.cpp's HTTP server of the same build, spoken to over loopback;
`sonia` is the router as everything else in the process uses it. Printed: time to the first token
of a prompt never seen and of one whose beginning is cached, tokens a second after it; then, for
Sonia, the first and second turn of a session with a prompt of a thousand tokens, and four chats
at once beside one, with four places.

Takes about four minutes on two cores; `--runs` more or fewer. Fetches the model first when it is
not here. Asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import msgspec

from sonia.config import Config, EmbeddingModel, Local, ModelRouter, Providers
from sonia.router import ChatRequest, Finished, TextDelta, open_router
from sonia.router.backends.llama import PROMPT_CACHE_MIB, graphics_card, place
from sonia.types import Message
from sonia.weights import Weights

MADE_TOKENS = 64
WORDS = [
    *("river", "stone", "window", "garden", "letter", "music", "winter", "bridge", "candle"),
    *("forest", "mirror", "silver", "paper", "ocean", "mountain", "clock", "village", "thunder"),
    *("meadow", "harbour", "lantern", "orchard", "feather", "copper"),
]


class Timed(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, in seconds from the request; `tokens` were made."""

    first_s: float
    whole_s: float
    tokens: int

    @property
    def per_second(self) -> float:
        """Tokens a second once the first was there."""
        return (self.tokens - 1) / max(self.whole_s - self.first_s, 1e-9)


class Model(Protocol):
    """Something that answers a conversation."""

    async def answer(self, messages: Sequence[Message]) -> tuple[str, Timed]:
        """The text, and how long it took."""
        ...


class OfSonia:
    """The router of this process."""

    def __init__(self, router: Any) -> None:
        self._router = router

    async def answer(self, messages: Sequence[Message]) -> tuple[str, Timed]:
        """See `Model.answer`."""
        began, first, text, tokens = time.perf_counter(), 0.0, "", 0
        request = ChatRequest(messages=tuple(messages), max_tokens=MADE_TOKENS)
        async with self._router.chat(request) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    first = first or time.perf_counter() - began
                    text += event.text
                elif isinstance(event, Finished):
                    tokens = event.usage.completion_tokens
        whole = time.perf_counter() - began
        return text, Timed(first_s=first, whole_s=whole, tokens=tokens)


class OfServer:
    """llama.cpp's server over HTTP."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def answer(self, messages: Sequence[Message]) -> tuple[str, Timed]:
        """See `Model.answer`."""
        began, first, text, tokens = time.perf_counter(), 0.0, "", 0
        body = {
            "messages": [{"role": one.role, "content": one.content} for one in messages],
            "stream": True,
            "cache_prompt": True,
            "temperature": 0.0,
            "max_tokens": MADE_TOKENS,
        }
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                chunk = msgspec.json.decode(line[6:])
                for choice in chunk.get("choices", ()):
                    if piece := choice["delta"].get("content"):
                        first = first or time.perf_counter() - began
                        text += piece
                if timings := chunk.get("timings"):
                    tokens = timings["predicted_n"]
        whole = time.perf_counter() - began
        return text, Timed(first_s=first, whole_s=whole, tokens=tokens)


@asynccontextmanager
async def open_server(path: Path, config: ModelRouter) -> AsyncIterator[OfServer]:
    """The engine's own server, set as Sonia sets hers."""
    import xllamacpp

    local = config.providers.local
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel = local.context_tokens, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = local.threads
    params.cache_ram_mib = PROMPT_CACHE_MIB
    params.warmup = False
    params.no_extra_bufts = True
    place(params, on_card=local.gpu and graphics_card(xllamacpp.get_device_info()) is not None)
    params.verbosity = -1
    server = await asyncio.to_thread(xllamacpp.Server, params)
    async with httpx.AsyncClient(base_url=server.listening_address, timeout=120) as client:
        yield OfServer(client)


def asking(words: int, seed: str) -> list[Message]:
    """A prompt that was never seen: its beginning is random."""
    chosen = random.Random(seed).choices(WORDS, k=words)
    text = f"Note {seed}: {' '.join(chosen)}."
    system = Message(role="system", content=f"You tell long stories about {text}")
    return [system, Message(role="user", content="Tell me a long story about these words.")]


def printed(name: str, timed: Sequence[Timed]) -> None:
    """One line: medians and ranges."""
    first = sorted(one.first_s * 1000 for one in timed)
    speed = sorted(one.per_second for one in timed)
    print(
        f"{name:<28} {statistics.median(first):>8.0f} ({first[0]:.0f} to {first[-1]:.0f})"
        f" {statistics.median(speed):>10.1f} ({speed[0]:.1f} to {speed[-1]:.1f})",
        flush=True,
    )


async def beside(models: dict[str, Model], runs: int) -> None:
    """Both in turns: prompts never seen, then their continuation."""
    fresh: dict[str, list[Timed]] = {name: [] for name in models}
    again: dict[str, list[Timed]] = {name: [] for name in models}
    for run in range(runs):
        for name, model in models.items():
            talk = asking(150, f"{run} {name}")
            text, timed = await model.answer(talk)
            fresh[name].append(timed)
            more = Message(role="user", content="Go on.")
            talk = [*talk, Message(role="assistant", content=text), more]
            again[name].append((await model.answer(talk))[1])
    for name in models:
        printed(f"{name}, prompt never seen", fresh[name])
        printed(f"{name}, second turn", again[name])


async def long_session(model: Model, runs: int) -> None:
    """First and second turn with a thousand tokens of prompt."""
    first, second = [], []
    for run in range(runs):
        talk = asking(700, f"long {run}")
        text, timed = await model.answer(talk)
        first.append(timed)
        more = Message(role="user", content="And then?")
        talk = [*talk, Message(role="assistant", content=text), more]
        second.append((await model.answer(talk))[1])
    printed("sonia, 1,000 tokens, turn 1", first)
    printed("sonia, 1,000 tokens, turn 2", second)
    ratio = statistics.median(one.first_s for one in first) / statistics.median(
        one.first_s for one in second
    )
    print(f"the second turn's first token comes {ratio:.1f} times sooner")


async def at_once(model: Model, count: int, runs: int) -> None:
    """All tokens made a second, by `count` chats side by side."""
    rates = []
    for run in range(runs):
        talks = [asking(30, f"{count} {run} {number}") for number in range(count)]
        began = time.perf_counter()
        answers = await asyncio.gather(*(model.answer(talk) for talk in talks))
        rates.append(sum(one.tokens for _, one in answers) / (time.perf_counter() - began))
    low, high = min(rates), max(rates)
    print(f"{count} at once: {statistics.median(rates):.1f} tokens/s ({low:.1f} to {high:.1f})")


async def run(args: argparse.Namespace) -> None:
    """Load both and print."""
    weights = Weights(Config().models)
    local = Local(models=(args.model,), gpu=not args.cpu)
    profiles = {"chat_low_latency": (f"local/{args.model}",)}
    config = ModelRouter(providers=Providers(local=local), profiles=profiles)
    files = await weights.ensure(args.model)
    path = next(iter(files.values()))
    print(f"{'':<28} {'first token, ms':>22} {'tokens/s':>18}   median (range) of {args.runs}")
    async with (
        open_router(config, EmbeddingModel(), weights) as router,
        open_server(path, config) as server,
    ):
        await router.ready()
        loaded = next(one for one in router.models() if one.id == f"local/{args.model}")
        print(f"{args.model} on {loaded.device}")
        await beside({"sonia": OfSonia(router), "server": server}, args.runs)
        await long_session(OfSonia(router), max(1, args.runs // 2))
    local = msgspec.structs.replace(local, parallel=4, context_tokens=2048)
    four = msgspec.structs.replace(config, providers=Providers(local=local))
    async with open_router(four, EmbeddingModel(), weights) as router:
        await router.ready()
        for count in (1, 4):
            await at_once(OfSonia(router), count, max(1, args.runs // 2))


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", default=Local().models[0], help="of the catalogue (default: %(default)s)"
    )
    parser.add_argument("--cpu", action="store_true", help="leave the graphics card alone")
    parser.add_argument("--runs", type=int, default=6, help="of each (default: 6)")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
