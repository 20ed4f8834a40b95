"""What deciding, the ledger and the sandbox cost a tool call: `python -m benchmarks.acting`.

Through the real control plane, database and sandbox, one call at a time and then many at once.
Asserts nothing.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from sonia.config import EvaOs, OpenClaw
from sonia.control import Control, Policy, Rule, open_control
from sonia.control.risk import rule_on
from sonia.control.scope import scope_hash
from sonia.db import open_database
from sonia.tools import Call, GuardedTools, open_tools
from sonia.tools.shell import only_reads

MIGRATIONS = Path(__file__).parents[1] / "migrations"
COMMAND = "grep -rn 'tea' notes | sort | head -5"
SUM = Call(tool_name="math.evaluate", args={"expression": "6*7"})
LOOK = Call(tool_name="shell.run", args={"command": "cat a.txt"})
RUN = Call(tool_name="shell.run", args={"command": "cat a.txt; :"})
AT_ONCE = 32


async def timed(name: str, work: Callable[[], Awaitable[object]], count: int) -> None:
    """Print the median and the 95th percentile of one after another."""
    took_ms = []
    for _ in range(count):
        started_s = time.perf_counter()
        await work()
        took_ms.append((time.perf_counter() - started_s) * 1000)
    ranked = sorted(took_ms)
    print(f"  {name:44} {statistics.median(ranked):8.2f} ms   p95 {ranked[int(count * 0.95)]:8.2f}")


async def rate(name: str, work: Callable[[], Awaitable[object]], count: int) -> None:
    """Print calls per second with `AT_ONCE` under way."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one() -> None:
        async with free:
            await work()

    started_s = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    print(f"  {name:44} {count / (time.perf_counter() - started_s):8.0f} calls/s")


async def parts(control: Control, tools: GuardedTools) -> None:
    """The steps of a decision by themselves."""
    plan = await tools.plan("file.write", {"path": "notes/a.txt", "content": "x" * 500})
    policy = Policy(version=1, rules=(Rule(tool="mail.*", verdict="deny"),) * 20)

    async def rules() -> None:
        rule_on(plan, policy)

    async def scope() -> None:
        scope_hash(plan, 1)

    async def shell() -> None:
        only_reads(COMMAND)

    await timed("reading a shell command", shell, 500)
    await timed("the rules (20 of them)", rules, 500)
    await timed("the hash of a call", scope, 500)
    await timed("a decision and its row in the ledger", lambda: control.judge(plan, ask=False), 300)
    await timed("a row in the ledger", lambda: control.record("benchmark", {"n": 1}), 300)


async def calls(tools: GuardedTools) -> None:
    """Whole calls: planned, decided, run, looked at, written down."""
    await timed("math.evaluate, whole", lambda: tools.execute(SUM), 300)
    await timed("shell.run of one reading program, as words", lambda: tools.execute(LOOK), 40)
    await timed("shell.run by the shell (two ledger rows first)", lambda: tools.execute(RUN), 40)
    await rate("math.evaluate, whole", lambda: tools.execute(SUM), 1_000)
    await rate("shell.run of one reading program", lambda: tools.execute(LOOK), 100)


async def run() -> None:
    """Open everything, and measure."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            open_database(Path(folder) / "data" / "sonia.db", MIGRATIONS) as db,
            open_control(EvaOs(), db) as control,
            open_tools(OpenClaw(), control, db, Path(folder) / "workspace") as tools,
        ):
            await control.set_policy((Rule(tool="shell.*", verdict="allow"),), by="benchmark")
            note = Path(folder) / "workspace" / "a.txt"
            await asyncio.to_thread(note.write_text, "tea\n")
            await tools.execute(LOOK)
            await parts(control, tools)
            await calls(tools)


if __name__ == "__main__":
    asyncio.run(run())
