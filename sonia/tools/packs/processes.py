"""Starting a program of this machine as the user it is, and asking one to end."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.errors import NotFound
from sonia.tools import desktop
from sonia.tools.interface import ArgumentsInvalid, FileChanged, ToolFailed
from sonia.tools.paths import hides
from sonia.tools.tool import Arguments, Grant, Intent, Tool

STOPPED_S = 5.0
Word = Annotated[str, Meta(min_length=1, max_length=4_096)]


class ProcessMissing(NotFound):
    """No process has this number, or it has ended."""


class ProcessStartArguments(Arguments):
    """The program and its words, as they are: no shell reads them."""

    words: Annotated[
        tuple[Word, ...],
        Meta(min_length=1, max_length=100, description='Like ["gedit", "notes.md"].'),
    ]


class ProcessStart(Tool[ProcessStartArguments]):
    """With all the rights of the user and without a sandbox, so always the highest tier."""

    name: ClassVar = "process.start"
    description: ClassVar = "Start a program on this computer and leave it running. Asks first."
    arguments: ClassVar = ProcessStartArguments
    tier: ClassVar[Tier] = 3
    side_effects: ClassVar = ("starts a program outside of the sandbox",)

    async def plan(self, args: ProcessStartArguments) -> Intent:
        if any(hides(char) for word in args.words for char in word):
            raise ArgumentsInvalid(
                "process.start: the words have characters that don't show.", field="words"
            )
        program = await asyncio.to_thread(desktop.program, args.words[0])
        shown = "\n".join(args.words[1:])
        return Intent(
            preview=f"Start WITHOUT A SANDBOX, with all your rights:\n\n{program}\n{shown}"
        )

    async def run(self, args: ProcessStartArguments, grant: Grant) -> dict[str, Any]:
        program = await asyncio.to_thread(desktop.program, args.words[0])
        pid = await desktop.launch([program, *args.words[1:]])
        return {"pid": pid, "program": program}

    async def verify(self, args: ProcessStartArguments, result: dict[str, Any]) -> dict[str, Any]:
        import psutil  # type: ignore[import-untyped,unused-ignore]

        return {"ok": psutil.pid_exists(result["pid"])}


class ProcessStopArguments(Arguments):
    """Which one, by number and name, so that a person sees what ends."""

    pid: Annotated[int, Meta(ge=2, description="Its number, from process.list.")]
    name: Annotated[str, Meta(min_length=1, max_length=200, description="Its name, from there.")]


class ProcessStop(Tool[ProcessStopArguments]):
    """Asks it to end, waits, and looks. Never Sonia herself nor what she runs in."""

    name: ClassVar = "process.stop"
    description: ClassVar = "Ask a running program to end. Asks the user first."
    arguments: ClassVar = ProcessStopArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("ends a program",)

    async def plan(self, args: ProcessStopArguments) -> Intent:
        found = await asyncio.to_thread(_find, args)
        began = str(found.create_time())
        return Intent(
            preview=f"Ask the program {args.name} (process {args.pid}) to end",
            digests={f"process-{args.pid}": began},
        )

    async def run(self, args: ProcessStopArguments, grant: Grant) -> dict[str, Any]:
        return await asyncio.to_thread(_stop, args, grant)

    async def verify(self, args: ProcessStopArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": result["ended"]}


def _find(args: ProcessStopArguments) -> Any:
    import psutil

    try:
        found = psutil.Process(args.pid)
        name, user = found.name(), found.uids().real if hasattr(found, "uids") else None
    except psutil.Error as error:
        raise ProcessMissing(f"There is no process {args.pid}.", pid=args.pid) from error
    if name != args.name:
        raise ArgumentsInvalid(
            f"Process {args.pid} is {name}, not {args.name}. Look again with process.list.",
            field="name",
        )
    ours = psutil.Process()
    if found.pid in {ours.pid, *(parent.pid for parent in ours.parents())}:
        raise ArgumentsInvalid("That is Sonia herself, or what she runs in.", field="pid")
    if user is not None and user != os.getuid():
        raise ArgumentsInvalid("That process is another user's.", field="pid")
    return found


def _stop(args: ProcessStopArguments, grant: Grant) -> dict[str, Any]:
    import psutil

    found = _find(args)
    if str(found.create_time()) != grant.digests.get(f"process-{args.pid}"):
        raise FileChanged("Another process has this number by now. Nothing was ended.")
    try:
        found.terminate()
    except psutil.Error as error:
        raise ToolFailed(f"{args.name} can't be ended: {error}.") from error
    _, alive = psutil.wait_procs([found], timeout=min(STOPPED_S, grant.timeout_s))
    return {"pid": args.pid, "name": args.name, "ended": not alive}


def tools() -> tuple[Tool[Any], ...]:
    """The pack."""
    return ProcessStart(), ProcessStop()
