"""file.list: what is in a folder."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sonia.tools.files import Workspace
from sonia.tools.paths import components
from sonia.tools.tool import Arguments, Grant, Intent, Tool

MAX_LISTED = 500


class FileListArguments(Arguments):
    """Which folder."""

    path: Annotated[
        str, Meta(description="Folder relative to the workspace; '.' is the workspace.")
    ] = "."


class FileList(Tool[FileListArguments]):
    """Lists names, kinds and sizes; links are named and not followed."""

    name: ClassVar = "file.list"
    description: ClassVar = "List the files and folders in a folder of the workspace."
    arguments: ClassVar = FileListArguments
    aliases: ClassVar = ("filesystem.list_directory",)
    brings: ClassVar = "file"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def plan(self, args: FileListArguments) -> Intent:
        components(args.path)
        return Intent(preview=f"List {args.path}")

    async def run(self, args: FileListArguments, grant: Grant) -> dict[str, Any]:
        entries, count = await asyncio.to_thread(self._workspace.list, args.path, MAX_LISTED)
        return {
            "path": args.path,
            "entries": list(msgspec.to_builtins(entries)),
            "count": count,
            "truncated": count > len(entries),
        }
