"""Real tools and a real memory behind `/mcp`, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from sonia.config import EvaOs, MemoryEngine, OpenClaw
from sonia.control import Control, open_control
from sonia.db import open_database
from sonia.events import Bus
from sonia.gateway import MemoryOfWhoAsks
from sonia.gateway.mcp import mcp_routes
from sonia.memory import open_memory
from sonia.tools import GuardedTools, open_tools
from tests.memory_given import MIGRATIONS, HashingEmbedder
from tests.serving import serving

NEW = "2026-07-28"
ERAS = ("legacy", NEW, "auto")


@dataclass
class Given:
    url: str
    control: Control
    tools: GuardedTools
    workspace: Path
    stopping: asyncio.Event


@asynccontextmanager
async def serving_tools(folder: Path) -> AsyncIterator[Given]:
    """Enter for all that a test of `/mcp` needs, below `folder`."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        db = await enter(open_database(folder / "data" / "sonia.db", MIGRATIONS))
        control = await enter(open_control(EvaOs(), db))
        text = folder / "data" / "text"
        memory = await enter(open_memory(MemoryEngine(), db, HashingEmbedder(), Bus(), text))
        own = MemoryOfWhoAsks(memory)
        opening = open_tools(OpenClaw(), control, db, folder / "workspace", remembering=own)
        tools = await enter(opening)
        stopping = asyncio.Event()
        url = await enter(serving(mcp_routes(tools, stopping), below="/"))
        yield Given(f"{url}/mcp", control, tools, folder / "workspace", stopping)
