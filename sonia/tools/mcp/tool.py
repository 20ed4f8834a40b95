"""A tool of another server as one of ours: it modifies, sends, and is not believed."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol

import msgspec

from sonia.control import Tier
from sonia.tools.interface import ArgumentsInvalid, ToolFailed
from sonia.tools.mcp.definitions import Definition, wrong
from sonia.tools.tool import Arguments, Grant, Intent, Tool
from sonia.types import Origin


class Source(Protocol):
    """Where the tool is."""

    name: str
    whereabouts: str

    async def check(self, definition: Definition) -> None:
        """Raise a `SoniaError` when it can't be used now, or not as it is defined now."""
        ...

    async def call(self, theirs: str, args: dict[str, Any]) -> dict[str, Any]:
        """MCP's result. Raises a `SoniaError`."""
        ...


class McpTool(Tool[Any]):
    """Made by `tool_of`. What its server says of its harmlessness is not looked at."""

    arguments: ClassVar[type[Arguments]] = Arguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar[tuple[str, ...]] = ("whatever the server does",)
    brings: ClassVar[Origin | None] = "tool"
    outbound: ClassVar[bool] = True

    def __init__(self, source: Source, definition: Definition) -> None:
        self._source = source
        self.definition = definition

    def schema(self) -> dict[str, Any]:
        return self.definition.schema

    def read(self, args: dict[str, Any]) -> Any:
        try:
            msgspec.json.encode(args)
        except (TypeError, UnicodeError, OverflowError, RecursionError) as error:
            raise ArgumentsInvalid(f"{self.name}: the arguments are not plain JSON.") from error
        if why := wrong(self.definition, args):
            raise ArgumentsInvalid(f"{self.name}: {why}", tool=self.name)
        return args

    async def ready(self) -> None:
        await self._source.check(self.definition)

    async def plan(self, args: Any) -> Intent:
        shown = msgspec.json.format(msgspec.json.encode(args), indent=2).decode()
        where = f"{self._source.name} ({self._source.whereabouts})"
        return Intent(preview=f"Have {where} do {self.definition.theirs} with\n{shown}")

    async def run(self, args: Any, grant: Grant) -> dict[str, Any]:
        result = await self._source.call(self.definition.theirs, args)
        told = _told(result)
        if result.get("isError"):
            raise ToolFailed(told.get("text") or f"{self.name} failed and does not say why.")
        return told


def tool_of(source: Source, definition: Definition) -> McpTool:
    """A tool with the definition's name and description."""
    said = {"name": definition.name, "description": definition.description}
    kind: type[McpTool] = type("McpTool", (McpTool,), said)
    return kind(source, definition)


def _told(result: dict[str, Any]) -> dict[str, Any]:
    """Its texts, its structure, and the kinds of what is neither."""
    content = result.get("content")
    parts = (
        [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    )
    texts = [str(part.get("text", "")) for part in parts if part.get("type") == "text"]
    told: dict[str, Any] = {"text": "\n".join(texts)}
    if others := sorted({str(part.get("type")) for part in parts if part.get("type") != "text"}):
        told["left_out"] = others
    if isinstance(structured := result.get("structuredContent"), dict):
        told["structured"] = structured
    return told
