"""process.list: what runs on this machine."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from sonia.tools.tool import Arguments, Grant, Intent, Tool

MEASURED_S = 0.2


class ProcessListArguments(Arguments):
    """Which of them, and how many."""

    name: Annotated[
        str, Meta(max_length=200, description="Only programs whose name has this in it.")
    ] = ""
    sort: Annotated[
        Literal["memory", "cpu"], Meta(description="Those that use most of this come first.")
    ] = "memory"
    limit: Annotated[int, Meta(ge=1, le=500)] = 30


class ProcessList(Tool[ProcessListArguments]):
    """Names and use, never command lines: those may hold secrets."""

    name: ClassVar = "process.list"
    description: ClassVar = "List the programs that are running on this computer."
    arguments: ClassVar = ProcessListArguments
    aliases: ClassVar = ("system.processes", "system.list_processes")
    brings: ClassVar = "tool"

    async def plan(self, args: ProcessListArguments) -> Intent:
        return Intent(preview="Look at the programs that are running")

    async def run(self, args: ProcessListArguments, grant: Grant) -> dict[str, Any]:
        found = await asyncio.to_thread(_look, args.name.casefold())
        key = "cpu_percent" if args.sort == "cpu" else "memory_bytes"
        found.sort(key=lambda row: (row[key], row["memory_bytes"]), reverse=True)
        return {
            "processes": found[: args.limit],
            "count": len(found),
            "truncated": len(found) > args.limit,
        }


def _look(named: str) -> list[dict[str, Any]]:
    import psutil  # type: ignore[import-untyped,unused-ignore]

    seen = []
    for process in psutil.process_iter(["pid", "name", "username", "memory_info", "create_time"]):
        told = process.info
        if named not in (told["name"] or "").casefold():
            continue
        try:
            process.cpu_percent()
        except psutil.Error:
            continue
        seen.append((process, told))
    time.sleep(MEASURED_S)  # a share of the processor is one over some time
    rows = []
    for process, told in seen:
        try:
            cpu = process.cpu_percent()
        except psutil.Error:
            continue
        rows.append(
            {
                "pid": told["pid"],
                "name": told["name"] or "",
                "user": told["username"] or "",
                "memory_bytes": told["memory_info"].rss if told["memory_info"] else 0,
                "cpu_percent": round(cpu, 1),
                "started_s": round(told["create_time"] or 0),
            }
        )
    return rows
