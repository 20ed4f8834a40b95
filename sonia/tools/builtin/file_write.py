"""file.write: make, replace or lengthen a text file, whole or not at all."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from sonia.control import Tier
from sonia.tools.files import FileMissing, Workspace
from sonia.tools.interface import ArgumentsInvalid, FileChanged
from sonia.tools.tool import Arguments, Grant, Intent, Kept, Tool, finished

MAX_DIFFED_LINES = 2_000


class FileWriteArguments(Arguments):
    """What goes where."""

    path: Annotated[str, Meta(description="Path relative to the workspace, like notes/today.md.")]
    content: Annotated[str, Meta(description="The text to write.")]
    mode: Annotated[
        Literal["create", "replace", "append", "edit"],
        Meta(
            description="create fails if the file exists; append adds at its end; edit puts the "
            "content in the place of `find`."
        ),
    ] = "replace"
    find: Annotated[
        str | None,
        Meta(description="With edit: the text to replace. It must be in the file exactly once."),
    ] = None


class FileWrite(Tool[FileWriteArguments]):
    """Shows a diff, writes beside and renames, reads back."""

    name: ClassVar = "file.write"
    description: ClassVar = "Write a text file in the workspace. Asks the user first."
    arguments: ClassVar = FileWriteArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("writes a file in the workspace",)
    aliases: ClassVar = ("filesystem.write_file", "filesystem.edit_file")
    undoes: ClassVar = True

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def plan(self, args: FileWriteArguments) -> Intent:
        return await asyncio.to_thread(self._plan, args)

    def _plan(self, args: FileWriteArguments) -> Intent:
        before = self._read(args.path)
        _whole(args, before)
        known = {} if before is None else {args.path: hashlib.sha256(before).hexdigest()}
        return Intent(preview=_preview(args, before), digests=known)

    async def run(self, args: FileWriteArguments, grant: Grant) -> dict[str, Any]:
        size, sha256 = await finished(asyncio.to_thread(self._write, args, grant))
        return {"path": args.path, "bytes": size, "sha256": sha256, "mode": args.mode}

    def _write(self, args: FileWriteArguments, grant: Grant) -> tuple[int, str]:
        before, expected = self._read(args.path), grant.digests.get(args.path)
        if _sha256(before) != expected:
            raise FileChanged(f"{args.path} changed since this was planned. Nothing was written.")
        mode: Literal["create", "replace"] = "create" if args.mode == "create" else "replace"
        return self._workspace.write(args.path, _whole(args, before), mode, expected)

    async def keep(self, args: FileWriteArguments, grant: Grant) -> Kept:
        before = await asyncio.to_thread(self._read, args.path)
        after = hashlib.sha256(_whole(args, before)).hexdigest()
        return Kept(facts={"path": args.path, "after": after}, before=before)

    async def undo(self, kept: Kept) -> dict[str, Any]:
        return await finished(asyncio.to_thread(self._undo, kept))

    def _undo(self, kept: Kept) -> dict[str, Any]:
        path, after = kept.facts["path"], kept.facts["after"]
        if kept.before is None:
            self._workspace.remove(path, after)
            return {"path": path, "removed": True}
        size, sha256 = self._workspace.write(path, kept.before, "replace", after)
        return {"path": path, "restored": True, "bytes": size, "sha256": sha256}

    def _read(self, path: str) -> bytes | None:
        try:
            return self._workspace.read(path)
        except FileMissing:
            return None

    async def verify(self, args: FileWriteArguments, result: dict[str, Any]) -> dict[str, Any]:
        found = await asyncio.to_thread(self._workspace.digest, args.path)
        return {"ok": found == result["sha256"], "sha256": found}


def _whole(args: FileWriteArguments, before: bytes | None) -> bytes:
    """What the file will hold. Raises `ArgumentsInvalid`."""
    content = args.content.encode()
    if (args.mode == "edit") != (args.find is not None):
        raise ArgumentsInvalid("mode edit takes find, and no other mode does.", field="find")
    match args.mode:
        case "create" if before is not None:
            raise ArgumentsInvalid(
                f"{args.path} exists already. Use mode replace, append or edit.", field="mode"
            )
        case "append":
            return (before or b"") + content
        case "edit":
            sought = (args.find or "").encode()
            count = (before or b"").count(sought) if sought else 0
            if count != 1:
                raise ArgumentsInvalid(
                    f"The text to find is in {args.path} {count} times. It must be there once: "
                    "give more of what stands around it.",
                    field="find",
                )
            return (before or b"").replace(sought, content)
        case _:
            return content


def _sha256(content: bytes | None) -> str | None:
    return None if content is None else hashlib.sha256(content).hexdigest()


def _preview(args: FileWriteArguments, before: bytes | None) -> str:
    """A unified diff, or the whole text where a diff would be no shorter."""
    if before is None:
        return f"Create {args.path}\n\n{args.content}"
    if args.mode == "append":
        return f"Append to {args.path} ({len(before)} bytes)\n\n{args.content}"
    old = before.decode("utf-8", "replace").splitlines(keepends=True)
    new = _whole(args, before).decode("utf-8", "replace").splitlines(keepends=True)
    verb = "Edit" if args.mode == "edit" else "Replace"
    if max(len(old), len(new)) > MAX_DIFFED_LINES:
        return f"{verb} {args.path} ({len(before)} bytes)\n\n{args.content}"
    lines = difflib.unified_diff(old, new, args.path, args.path)
    ended = (
        line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines
    )
    return f"{verb} {args.path}\n\n{''.join(ended) or '(no change)'}"
