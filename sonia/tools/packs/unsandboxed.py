"""A command without a sandbox: for hosts that have none, or for what a sandbox keeps out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Annotated, Any, ClassVar

from msgspec import Meta

from sonia.control import Tier
from sonia.tools import desktop
from sonia.tools.bubblewrap import SHELL
from sonia.tools.files import Workspace
from sonia.tools.interface import ArgumentsInvalid
from sonia.tools.output import Kept as KeptOutput
from sonia.tools.paths import hides
from sonia.tools.shell import programs
from sonia.tools.tool import Arguments, Grant, Intent, TimedOut, Tool

TOTAL_BYTES = 64 * 1024 * 1024


class UnsandboxedArguments(Arguments):
    """Which command."""

    command: Annotated[
        str, Meta(min_length=1, max_length=8_000, description="Run by /bin/sh in the workspace.")
    ]


class ShellRunUnsandboxed(Tool[UnsandboxedArguments]):
    """Everything that the user may do; so always the highest tier, and said in the preview."""

    name: ClassVar = "shell.run_unsandboxed"
    description: ClassVar = (
        "Run a shell command on this computer without a sandbox, with network. Asks the user first."
    )
    arguments: ClassVar = UnsandboxedArguments
    tier: ClassVar[Tier] = 3
    side_effects: ClassVar = ("runs a program with all rights of the user",)
    brings: ClassVar = "tool"
    outbound: ClassVar = True
    keeps_time: ClassVar = True

    def __init__(self, workspace: Workspace, output_bytes: int) -> None:
        self._workspace = workspace
        self._output_bytes = output_bytes

    async def plan(self, args: UnsandboxedArguments) -> Intent:
        if any(hides(char) for char in args.command if char not in "\n\t"):
            raise ArgumentsInvalid(
                "The command has characters that don't show. Type it plainly.", field="command"
            )
        return Intent(
            preview="Run WITHOUT A SANDBOX, with all your rights and with network, in "
            f"{self._workspace.root}:\n\n{args.command}",
            programs=await asyncio.to_thread(programs, args.command),
        )

    async def run(self, args: UnsandboxedArguments, grant: Grant) -> dict[str, Any]:
        out, err = KeptOutput(self._output_bytes // 2), KeptOutput(self._output_bytes // 2)
        process = await asyncio.create_subprocess_exec(
            SHELL, "-c", args.command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=desktop.environment(),
            cwd=self._workspace.root,
            start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(grant.timeout_s):
                async with asyncio.TaskGroup() as readers:
                    for stream, kept in ((process.stdout, out), (process.stderr, err)):
                        assert stream  # noqa: S101  asked for
                        readers.create_task(kept.drain(stream, TOTAL_BYTES, lambda: _end(process)))
                await process.wait()
        except TimeoutError as error:
            _end(process)
            said = {"stdout": out.text(), "stderr": err.text()}
            why = f"The command was killed: it ran longer than {grant.timeout_s:g} s."
            raise TimedOut(why, **said) from error
        finally:
            _end(process)
            await process.wait()
        return {
            "exit_code": process.returncode,
            "stdout": out.text(),
            "stderr": err.text(),
            "dropped_bytes": out.dropped + err.dropped,
        }

    async def verify(self, args: UnsandboxedArguments, result: dict[str, Any]) -> dict[str, Any]:
        return {"ok": result["exit_code"] == 0, "exit_code": result["exit_code"]}


def _end(process: asyncio.subprocess.Process) -> None:
    """Kill its group: what it left in the background too, unless that has left the group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def tools(workspace: Workspace, output_bytes: int) -> tuple[Tool[Any], ...]:
    """The pack."""
    return (ShellRunUnsandboxed(workspace, output_bytes),)
