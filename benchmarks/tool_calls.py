"""Tool calls of the default local model on labelled requests: `python -m benchmarks.tool_calls`.

Each row of `benchmarks/data/tool_calls.jsonl` is one request, the tool that should be called
(`say` for none) and patterns that its arguments must match. All thirteen standard tools are
offered each time. Printed for the recipe of `router/backends/toolpick.py`, where a grammar holds
the answer to a tool of the list, and for the engine's own tool calling without a grammar, as a
plain client of llama.cpp would use it: how many answers were valid (words, or a call of a real
tool with arguments of its schema), and how many right (that tool, those arguments, or none).

`dev` rows may be tuned on; `held-out` rows must not. One author wrote both. Takes about three
minutes on two cores, fetches the model first when it is not here, and asserts nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from sonia.config import Config, EmbeddingModel, ModelRouter
from sonia.router import ChatRequest, ToolCallProposed, open_router
from sonia.router.backends.base import fits
from sonia.tools.builtin import builtin_tools
from sonia.tools.catalogue import Catalogue
from sonia.tools.files import Workspace
from sonia.tools.network import GuardedClient, Reach
from sonia.tools.sandbox import Sandbox
from sonia.tools.trash import Trash
from sonia.types import Message, ToolSpec
from sonia.weights import Weights

DATA = Path(__file__).parent / "data" / "tool_calls.jsonl"
SYSTEM = "You are Sonia, the user's personal assistant. Reply in one or two short sentences."
SAY = "say"


def _standard() -> tuple[ToolSpec, ...]:
    """The product's own tools, as a model is told of them. None is run."""
    here = Path()
    workspace = Workspace(here, 1)
    tools = builtin_tools(
        workspace, Sandbox(here), GuardedClient(Reach()), Trash(here, workspace), ""
    )
    return Catalogue(tools, timeout_s=1.0, folder=here).specs()


TOOLS = _standard()
BY_NAME = {tool.name: tool for tool in TOOLS}


class Labelled(msgspec.Struct, frozen=True, kw_only=True):
    """One request; `has` are patterns, without regard to case, by the argument's name."""

    split: str
    said: str
    tool: str
    has: dict[str, str]


class Chosen(msgspec.Struct, frozen=True, kw_only=True):
    """What a way of asking made of a request; `tool` is `say` for words."""

    tool: str
    arguments: Any
    valid: bool
    seconds: float


Choose = Callable[[str], Awaitable[Chosen]]


def right(row: Labelled, chosen: Chosen) -> bool:
    """The tool that was wanted, and every pattern found in its argument."""
    if not chosen.valid or chosen.tool != row.tool:
        return False
    return all(
        re.search(pattern, str(chosen.arguments.get(name, "")), re.IGNORECASE)
        for name, pattern in row.has.items()
    )


def constrained(router: Any) -> Choose:
    """Sonia's way."""

    async def choose(said: str) -> Chosen:
        began = time.perf_counter()
        messages = (Message(role="system", content=SYSTEM), Message(role="user", content=said))
        request = ChatRequest(messages=messages, tools=TOOLS, max_tokens=200)
        async with router.chat(request) as events:
            async for event in events:
                seconds = time.perf_counter() - began
                if isinstance(event, ToolCallProposed):
                    call = event.call
                    tool = BY_NAME.get(call.name)
                    valid = tool is not None and fits(call.arguments, tool)
                    return Chosen(
                        tool=call.name, arguments=call.arguments, valid=valid, seconds=seconds
                    )
                return Chosen(tool=SAY, arguments={}, valid=True, seconds=seconds)
        raise AssertionError("the answer had no event")

    return choose


def native(server: Any) -> Choose:
    """The engine's chat template and its own parser of calls, without our grammar."""
    tools = [
        {
            "type": "function",
            "function": {
                "name": tool.name.replace(".", "_"),
                "description": tool.description,
                "parameters": tool.parameters,
            },
        }
        for tool in TOOLS
    ]
    names = {tool.name.replace(".", "_"): tool.name for tool in TOOLS}

    def ask(said: str) -> Any:
        chunks: list[Any] = []
        body = {
            "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": said}],
            "tools": tools,
            "temperature": 0.0,
            "max_tokens": 200,
            "stream": False,
        }
        server.handle_chat_completions(body, lambda chunk: chunks.append(chunk) or False)
        return chunks[-1]

    async def choose(said: str) -> Chosen:
        began = time.perf_counter()
        answer = await asyncio.to_thread(ask, said)
        seconds = time.perf_counter() - began
        if "error" in answer:  # its own parser gave up on what the model said
            return Chosen(tool="?", arguments={}, valid=False, seconds=seconds)
        message = answer["choices"][0]["message"]
        calls = message.get("tool_calls") or []
        if not calls:
            text = message.get("content") or ""
            leaked = text.lstrip().startswith("{") or "<tool_call>" in text or '"arguments"' in text
            return Chosen(tool=SAY, arguments={}, valid=not leaked, seconds=seconds)
        function = calls[0]["function"]
        name = names.get(function["name"], function["name"])
        try:
            arguments = json.loads(function["arguments"])
        except ValueError:
            arguments = None
        valid = name in BY_NAME and isinstance(arguments, dict) and fits(arguments, BY_NAME[name])
        return Chosen(tool=name, arguments=arguments or {}, valid=valid, seconds=seconds)

    return choose


async def measured(title: str, choose: Choose, rows: Sequence[Labelled], *, wrong: bool) -> None:
    """Ask everything, and print a line for each split."""
    await choose("Hello")  # so that the prompt's beginning is cached, as it is in use
    for split in sorted({row.split for row in rows}):
        mine = [row for row in rows if row.split == split]
        chosen = [await choose(row.said) for row in mine]
        good = [right(row, one) for row, one in zip(mine, chosen, strict=True)]
        spent = sorted(one.seconds for one in chosen)
        none = [ok for row, ok in zip(mine, good, strict=True) if row.tool == SAY]
        print(
            f"{title:<12} {split:<9} {len(mine):>4} "
            f"{sum(one.valid for one in chosen) / len(mine):>7.0%} "
            f"{sum(good) / len(mine):>7.0%} {sum(none) / max(1, len(none)):>10.0%} "
            f"{spent[len(spent) // 2] * 1000:>8.0f} {spent[int(len(spent) * 0.95)] * 1000:>8.0f}",
            flush=True,
        )
        if wrong:
            for row, one, ok in zip(mine, chosen, good, strict=True):
                if not ok:
                    print(f"    {row.said!r}: {one.tool} {one.arguments}, wanted {row.tool}")


async def run(args: argparse.Namespace) -> None:
    """Load the model and print the table."""
    rows = [msgspec.json.decode(line, type=Labelled) for line in DATA.read_bytes().splitlines()]
    if args.split:
        rows = [row for row in rows if row.split == args.split]
    print("ms: of the first event, the request's beginning being cached")
    heads = ("", "rows", "", "valid", "right", "none right", "ms p50", "ms p95")
    print("{:<12} {:<9} {:>4} {:>7} {:>7} {:>10} {:>8} {:>8}".format(*heads))
    weights = Weights(Config().models)
    async with open_router(ModelRouter(), EmbeddingModel(), weights) as router:
        await router.ready()
        await measured("constrained", constrained(router), rows, wrong=args.wrong)
    if args.native:
        import xllamacpp

        files = await weights.ensure(ModelRouter().providers.local.models[0])
        params = xllamacpp.CommonParams()
        params.model.path = str(next(iter(files.values())))
        params.n_ctx, params.n_parallel, params.use_jinja = 4096, 1, True
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 2
        params.verbosity = -1
        server = await asyncio.to_thread(xllamacpp.Server, params)
        await measured("native", native(server), rows, wrong=args.wrong)


def main() -> None:
    """Parse the flags and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("dev", "held-out"), help="only these rows")
    parser.add_argument("--wrong", action="store_true", help="print the requests that went wrong")
    parser.add_argument(
        "--native", action=argparse.BooleanOptionalAction, default=True, help="measure that, too"
    )
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
