"""file.read: what is in a file."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.tools.files import Workspace
from sonia.tools.tool import Arguments, Grant, Intent, Tool


class FileReadArguments(Arguments):
    """Which file, and how much of it."""

    path: Annotated[str, Meta(description="Path relative to the workspace, like notes/today.md.")]
    max_bytes: Annotated[
        int, Meta(ge=1, le=1_048_576, description="Read at most this much from its start.")
    ] = 65_536


class FileRead(Tool[FileReadArguments]):
    """Reads text; says so when it isn't."""

    name: ClassVar = "file.read"
    description: ClassVar = "Read a text file in the workspace."
    arguments: ClassVar = FileReadArguments
    aliases: ClassVar = ("filesystem.read_file",)
    brings: ClassVar = "file"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def plan(self, args: FileReadArguments) -> Intent:
        found = await asyncio.to_thread(self._workspace.digest, args.path)
        return Intent(
            preview=f"Read {args.path}", digests={args.path: found} if found is not None else {}
        )

    async def run(self, args: FileReadArguments, grant: Grant) -> dict[str, Any]:
        content = await asyncio.to_thread(self._workspace.read, args.path)
        part = content[: args.max_bytes]
        found = {"path": args.path, "bytes": len(content), "truncated": len(part) < len(content)}
        text = _text(part, whole=len(part) == len(content))
        if text is None:
            return {**found, "binary": True, "content": None}
        return {**found, "binary": False, "content": text}


def _text(part: bytes, *, whole: bool) -> str | None:
    """UTF-8, allowing for a character cut at the end; None when it is something else."""
    if b"\0" in part:
        return None
    for cut in range(1 if whole else 4):
        try:
            return part[: len(part) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
    return None
