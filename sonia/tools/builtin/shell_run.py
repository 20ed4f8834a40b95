"""shell.run: a command, in the sandbox."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta

from sonia.control import Tier
from sonia.tools.bubblewrap import INSIDE, SHELL
from sonia.tools.builtin import shell_words
from sonia.tools.files import Workspace
from sonia.tools.interface import ArgumentsInvalid, ToolFailed
from sonia.tools.paths import PathRefused, hides
from sonia.tools.sandbox import Sandbox
from sonia.tools.shell import only_reads, programs
from sonia.tools.tool import Arguments, Grant, Intent, TimedOut, Tool


class ShellRunArguments(Arguments):
    """Which command, and how long it may take."""

    command: Annotated[
        str, Meta(min_length=1, max_length=8_000, description="Run by /bin/sh in the workspace.")
    ]
    timeout_s: (
        Annotated[float, Meta(gt=0, le=600, description="Kill it after this many seconds.")] | None
    ) = None


class ShellRun(Tool[ShellRunArguments]):
    """What was shown is what `/bin/sh -c` gets; what only reads runs as its words instead."""

    name: ClassVar = "shell.run"
    description: ClassVar = (
        "Run a shell command on this Linux machine, in a sandbox without network that sees only "
        "the workspace. Asks the user first, unless the command only reads."
    )
    arguments: ClassVar = ShellRunArguments
    tier: ClassVar[Tier] = 2
    side_effects: ClassVar = ("runs a program", "may change files in the workspace")
    aliases: ClassVar = ("shell.run_command",)
    brings: ClassVar = "tool"
    keeps_time: ClassVar = True

    def __init__(self, sandbox: Sandbox, workspace: Workspace) -> None:
        self._sandbox = sandbox
        self._workspace = workspace

    async def ready(self) -> None:
        await self._sandbox.check()

    async def plan(self, args: ShellRunArguments) -> Intent:
        if any(hides(char) for char in args.command if char not in "\n\t"):
            raise ArgumentsInvalid(
                "shell.run: the command has characters that don't show. Type it plainly.",
                field="command",
            )
        if word := await asyncio.to_thread(shell_words.missing, args.command):
            raise ArgumentsInvalid(
                shell_words.explain(word), field="command", shell=SHELL, system="Linux"
            )
        reads = await asyncio.to_thread(only_reads, args.command)
        return Intent(
            preview=f"Run in a sandbox without network, in {INSIDE}:\n\n{args.command}",
            digests=await asyncio.to_thread(self._named_files, args.command),
            tier=0 if reads else None,
            programs=await asyncio.to_thread(programs, args.command),
        )

    def _named_files(self, command: str) -> dict[str, str]:
        """Digests of the workspace's files among the words: a swapped script is another plan."""
        found = {}
        for word in shell_words.words(command):
            path = word.removeprefix(f"{INSIDE}/")
            try:
                digest = self._workspace.digest(path)
            except PathRefused:
                continue
            if digest is not None:
                found[path] = digest
        return found

    async def run(self, args: ShellRunArguments, grant: Grant) -> dict[str, Any]:
        if script := only_reads(args.command):
            ran = await self._sandbox.look(script, grant.timeout_s)
        else:
            ran = await self._sandbox.run(args.command, grant.timeout_s)
        result: dict[str, Any] = msgspec.to_builtins(ran)
        if ran.timed_out:
            raise TimedOut(f"The command was killed: {ran.stopped}.", **result)
        if ran.stopped:
            raise ToolFailed(f"The command was killed: {ran.stopped}.", **result)
        return {name: result[name] for name in result if name not in ("stopped", "timed_out")}

    async def verify(self, args: ShellRunArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": result["exit_code"] == 0, "exit_code": result["exit_code"]}

    def timeout_s(self, args: ShellRunArguments) -> float | None:
        return args.timeout_s
