"""file.search: which files have a text in their name or in what they hold."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sonia.tools.files import Workspace
from sonia.tools.paths import components
from sonia.tools.searching import Hits, Search, compiled
from sonia.tools.tool import Arguments, Grant, Intent, Tool

SHARE_OF_TIME = 0.8


class FileSearchArguments(Arguments):
    """What to look for, and where."""

    query: Annotated[
        str, Meta(min_length=1, max_length=500, description="The text to find; case is ignored.")
    ]
    path: Annotated[str, Meta(description="Folder to look below; '.' is the workspace.")] = "."
    named: Annotated[
        str, Meta(max_length=200, description="Only files whose name has this in it, like .md.")
    ] = ""
    pattern: Annotated[bool, Meta(description="Take the query as a regular expression (RE2).")] = (
        False
    )


class FileSearch(Tool[FileSearchArguments]):
    """Names and lines, without following links; what begins with a dot is left out."""

    name: ClassVar = "file.search"
    description: ClassVar = "Search the files of the workspace for a text, in names and contents."
    arguments: ClassVar = FileSearchArguments
    aliases: ClassVar = ("filesystem.search", "filesystem.search_files")
    brings: ClassVar = "file"

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def plan(self, args: FileSearchArguments) -> Intent:
        components(args.path)
        compiled(args.query, pattern=args.pattern)
        return Intent(preview=f"Search the files below {args.path} for {args.query}")

    async def run(self, args: FileSearchArguments, grant: Grant) -> dict[str, Any]:
        search = Search(
            compiled(args.query, pattern=args.pattern),
            named=args.named,
            max_bytes=self._workspace.max_bytes,
            limit_s=grant.timeout_s * SHARE_OF_TIME,
        )
        try:
            found = await asyncio.to_thread(self._below, search, args.path)
        finally:
            search.stop()
        result: dict[str, Any] = msgspec.to_builtins(found)
        return result

    def _below(self, search: Search, path: str) -> Hits:
        with self._workspace.folder(path) as folder:
            return search.below(folder, "/".join(components(path)))
