"""file.delete: to the trash, from where it can be put back."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.tools.files import FileMissing
from sonia.tools.tool import Arguments, Grant, Intent, Kept, Tool, finished
from sonia.tools.trash import Survey, Trash

MANY = 100


class FileDeleteArguments(Arguments):
    """What goes."""

    path: Annotated[
        str, Meta(description="A file, or a folder with all that is in it, in the workspace.")
    ]


class FileDelete(Tool[FileDeleteArguments]):
    """One rename, whatever is in a folder; how much that is, is shown."""

    name: ClassVar = "file.delete"
    description: ClassVar = "Move a file of the workspace to the trash. Asks the user first."
    arguments: ClassVar = FileDeleteArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("moves a file or folder to the trash",)
    aliases: ClassVar = ("filesystem.delete_file", "filesystem.delete")
    undoes: ClassVar = True

    def __init__(self, trash: Trash) -> None:
        self._trash = trash

    async def plan(self, args: FileDeleteArguments) -> Intent:
        found = await asyncio.to_thread(self._trash.survey, args.path)
        return Intent(
            preview=_preview(args.path, found),
            digests={args.path: found.digest},
            tier=3 if found.files > MANY else None,
        )

    async def keep(self, args: FileDeleteArguments, grant: Grant) -> Kept:
        return Kept(facts={"path": args.path, "action_id": grant.action_id})

    async def run(self, args: FileDeleteArguments, grant: Grant) -> dict[str, Any]:
        expected = grant.digests[args.path]
        await finished(asyncio.to_thread(self._trash.take, args.path, grant.action_id, expected))
        return {"path": args.path, "deleted": True}

    async def verify(self, args: FileDeleteArguments, result: dict[str, Any]) -> dict[str, Any]:
        try:
            await asyncio.to_thread(self._trash.survey, args.path)
        except FileMissing:
            return {"ok": True}
        return {"ok": False, "reason": "something is there"}

    async def undo(self, kept: Kept) -> dict[str, Any]:
        path, action_id = kept.facts["path"], kept.facts["action_id"]
        found = await asyncio.to_thread(self._trash.put_back, path, action_id)
        return {"path": path, "restored": True, "files": found.files, "bytes": found.bytes}


def _preview(path: str, found: Survey) -> str:
    if found.kind != "folder":
        return f"Move the {found.kind} {path} to the trash ({found.bytes} bytes)"
    said = (
        f"Move the folder {path} to the trash: {found.files} files and {found.folders} folders "
        f"in it, {found.bytes} bytes"
    )
    if not found.names:
        return said
    more = (
        f"\n… and {found.files - len(found.names)} more" if found.files > len(found.names) else ""
    )
    return f"{said}\n\n" + "\n".join(found.names) + more
