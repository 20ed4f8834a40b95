"""file.write: make, replace or lengthen a text file, whole or not at all."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.tools.files import FileMissing, Mode, Workspace
from sonia.tools.interface import ArgumentsInvalid
from sonia.tools.tool import Arguments, Grant, Intent, Tool

MAX_DIFFED_LINES = 2_000


class FileWriteArguments(Arguments):
    """What goes where."""

    path: Annotated[str, Meta(description="Path relative to the workspace, like notes/today.md.")]
    content: Annotated[str, Meta(description="The text to write.")]
    mode: Annotated[
        Mode,
        Meta(description="create fails if the file exists; append adds at its end."),
    ] = "replace"


class FileWrite(Tool[FileWriteArguments]):
    """Shows a diff, writes beside and renames, reads back."""

    name: ClassVar = "file.write"
    description: ClassVar = "Write a text file in the workspace. Asks the user first."
    arguments: ClassVar = FileWriteArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("writes a file in the workspace",)
    aliases: ClassVar = ("filesystem.write_file",)

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def plan(self, args: FileWriteArguments) -> Intent:
        return await asyncio.to_thread(self._plan, args)

    def _plan(self, args: FileWriteArguments) -> Intent:
        try:
            before: bytes | None = self._workspace.read(args.path)
        except FileMissing:
            before = None
        if before is not None and args.mode == "create":
            raise ArgumentsInvalid(
                f"{args.path} exists already. Use mode replace or append.", field="mode"
            )
        known = {} if before is None else {args.path: hashlib.sha256(before).hexdigest()}
        return Intent(preview=_preview(args, before), digests=known)

    async def run(self, args: FileWriteArguments, grant: Grant) -> dict[str, Any]:
        writing = asyncio.ensure_future(
            asyncio.to_thread(
                self._workspace.write,
                args.path,
                args.content.encode(),
                args.mode,
                grant.digests.get(args.path),
            )
        )
        try:
            size, sha256 = await asyncio.shield(writing)
        finally:
            if not writing.done():  # a write that has begun ends before anyone says it did not
                await asyncio.wait([writing])
        return {"path": args.path, "bytes": size, "sha256": sha256, "mode": args.mode}

    async def verify(self, args: FileWriteArguments, result: dict[str, Any]) -> dict[str, Any]:
        found = await asyncio.to_thread(self._workspace.digest, args.path)
        return {"ok": found == result["sha256"], "sha256": found}


def _preview(args: FileWriteArguments, before: bytes | None) -> str:
    """A unified diff, or the whole text where a diff would be no shorter."""
    if before is None:
        return f"Create {args.path}\n\n{args.content}"
    if args.mode == "append":
        return f"Append to {args.path} ({len(before)} bytes)\n\n{args.content}"
    old = before.decode("utf-8", "replace").splitlines(keepends=True)
    new = args.content.splitlines(keepends=True)
    if max(len(old), len(new)) > MAX_DIFFED_LINES:
        return f"Replace {args.path} ({len(before)} bytes)\n\n{args.content}"
    lines = difflib.unified_diff(old, new, args.path, args.path)
    ended = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return f"Replace {args.path}\n\n{''.join(ended) or '(no change)'}"
