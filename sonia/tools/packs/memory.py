"""Memories by tool: find, keep and erase them."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sonia.control import Tier
from sonia.tools.interface import FileChanged, Remembering
from sonia.tools.tool import Arguments, Grant, Intent, Tool

MAX_CHARS = 4_000
Content = Annotated[str, Meta(min_length=1, max_length=MAX_CHARS)]


class MemorySearchArguments(Arguments):
    """What to look for."""

    query: Annotated[str, Meta(min_length=1, max_length=1_000, description="What to look for.")]
    limit: Annotated[int, Meta(ge=1, le=50)] = 5


class MemorySearch(Tool[MemorySearchArguments]):
    """The memories of who asks, and nobody else's."""

    name: ClassVar = "memory.search"
    description: ClassVar = "Look for what is remembered about something."
    arguments: ClassVar = MemorySearchArguments
    brings: ClassVar = "memory"

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def plan(self, args: MemorySearchArguments) -> Intent:
        return Intent(preview=f"Look in the memories for {args.query}")

    async def run(self, args: MemorySearchArguments, grant: Grant) -> dict[str, Any]:
        found = await self._remembering.find(args.query, args.limit, grant.asked)
        return {"query": args.query, "memories": list(msgspec.to_builtins(found))}


class MemoryRememberArguments(Arguments):
    """What to keep."""

    content: Annotated[Content, Meta(description="One fact, as a sentence that stands alone.")]


class MemoryRemember(Tool[MemoryRememberArguments]):
    """Kept with where it comes from: what a page says is never the owner's word."""

    name: ClassVar = "memory.remember"
    description: ClassVar = "Remember a fact from now on."
    arguments: ClassVar = MemoryRememberArguments
    tier: ClassVar[Tier] = 1
    side_effects: ClassVar = ("keeps a memory",)

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def plan(self, args: MemoryRememberArguments) -> Intent:
        return Intent(preview=f"Remember:\n\n{args.content}")

    async def run(self, args: MemoryRememberArguments, grant: Grant) -> dict[str, Any]:
        kept = await self._remembering.keep(args.content, grant.asked)
        return {"memory_id": kept.id, "content": kept.content}

    async def verify(self, args: MemoryRememberArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": result["content"] == args.content}


class MemoryForgetArguments(Arguments):
    """Which memory. Its words are given too, so that a person sees what goes."""

    memory_id: Annotated[str, Meta(min_length=1, max_length=100)]
    content: Annotated[Content, Meta(description="The memory as it was found, word for word.")]


class MemoryForget(Tool[MemoryForgetArguments]):
    """Erased everywhere; that can't be undone."""

    name: ClassVar = "memory.forget"
    description: ClassVar = "Erase one memory everywhere, for good. Asks the user first."
    arguments: ClassVar = MemoryForgetArguments
    tier: ClassVar[Tier] = 3
    side_effects: ClassVar = ("erases a memory for good",)

    def __init__(self, remembering: Remembering) -> None:
        self._remembering = remembering

    async def plan(self, args: MemoryForgetArguments) -> Intent:
        return Intent(preview=f"Erase for good the memory {args.memory_id}:\n\n{args.content}")

    async def run(self, args: MemoryForgetArguments, grant: Grant) -> dict[str, Any]:
        found = await self._remembering.look(args.memory_id, grant.asked)
        if found.content != args.content:
            raise FileChanged("The memory has other words than were shown. Nothing was erased.")
        await self._remembering.drop(args.memory_id, grant.asked)
        return {"memory_id": args.memory_id, "forgotten": True}


def tools(remembering: Remembering) -> tuple[Tool[Any], ...]:
    """The pack."""
    return MemorySearch(remembering), MemoryRemember(remembering), MemoryForget(remembering)
