"""A line to an MCP server: requests out, answers back, over a program's pipes or over HTTP."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from sonia.errors import Unavailable
from sonia.log import get_logger, redact
from sonia.tools.interface import ToolFailed

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
STOP_S = 2.0
METHOD_NOT_FOUND = -32601
# What a program needs to run at all; nothing of Sonia's own environment beside it.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SYSTEMROOT", "USERPROFILE")


class ServerGone(Unavailable):
    """The server ended, or hung up; it is started again."""


class Refused(ToolFailed):
    """The server answered with an error. `number` is JSON-RPC's."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class Line(ABC):
    """One connection. `closed` is set when the other side is gone, and `why` says how."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.closed = asyncio.Event()
        self.why = ""
        self._changed = changed

    @abstractmethod
    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """Return the result. Cancelling tells the server. Raises `Refused`, `ServerGone`."""

    @abstractmethod
    async def notify(self, method: str, params: dict[str, Any]) -> None:
        """Say something that is not answered."""

    @abstractmethod
    async def close(self) -> None:
        """Hang up, and end the program if there is one."""

    def heard(self, message: Any) -> dict[str, Any] | None:
        """What to send back for what the server says unasked."""
        if not isinstance(message, dict):
            return None
        method, request_id = message.get("method"), message.get("id")
        if method == "notifications/tools/list_changed":
            self._changed()
        if not isinstance(method, str) or request_id is None:
            return None
        if method == "ping":
            return {"jsonrpc": "2.0", "id": request_id, "result": {}}
        why = {"code": METHOD_NOT_FOUND, "message": f"{method} is not answered here."}
        return {"jsonrpc": "2.0", "id": request_id, "error": why}


def result_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """The result in an answer. Raises `Refused`."""
    error = message.get("error")
    if isinstance(error, dict):
        number = error.get("code")
        said = redact(str(error.get("message", "no reason")))[:500]
        raise Refused(f"The server refused: {said}", number if isinstance(number, int) else 0)
    result = message.get("result")
    if not isinstance(result, dict):
        raise Refused("The server's answer is not MCP.", 0)
    return result


class Pipes(Line):
    """A program that speaks on its standard input and output, a message a line."""

    def __init__(
        self,
        name: str,
        process: asyncio.subprocess.Process,
        changed: Callable[[], None],
    ) -> None:
        super().__init__(changed)
        self._name = name
        self._process = process
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._last_said = ""
        self._tasks = (
            asyncio.create_task(self._listen(), name=f"mcp {name}"),
            asyncio.create_task(self._hear_complaints(), name=f"mcp {name} stderr"),
        )

    @classmethod
    async def open(
        cls,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        changed: Callable[[], None],
    ) -> Pipes:
        """Start the program, with `env` over what it inherits. Raises `ServerGone`."""
        inherited = {key: os.environ[key] for key in INHERITED if key in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**inherited, **env},
                limit=MAX_MESSAGE_BYTES,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ServerGone(f"{command[0]!r} can't be started: {error}.") from error
        return cls(name, process, changed)

    async def request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if self.closed.is_set():
            raise ServerGone(self.why)
        number = next(self._numbers)
        answered: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = answered
        try:
            await self._send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return result_of(await answered)
        except asyncio.CancelledError:
            with suppress(ServerGone):
                await self.notify("notifications/cancelled", {"requestId": number})
            raise
        finally:
            self._asked.pop(number, None)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        await self._send({"jsonrpc": "2.0", "method": method, "params": params})

    async def close(self) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await self._process.wait()
        self._kill()
        await self._process.wait()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _kill(self) -> None:
        """The whole group: what the program started goes with it."""
        with suppress(ProcessLookupError, PermissionError):
            if hasattr(os, "killpg"):
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()

    async def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin  # noqa: S101  it was asked for
        try:
            self._process.stdin.write(msgspec.json.encode(message) + b"\n")
            await self._process.stdin.drain()
        except (ConnectionError, RuntimeError) as error:
            raise ServerGone(self.why or "The program closed its input.") from error

    async def _listen(self) -> None:
        assert self._process.stdout  # noqa: S101  it was asked for
        try:
            async for line in self._process.stdout:
                await self._take(line)
        except ValueError:  # a line without end
            self.why = f"It sent a message of more than {MAX_MESSAGE_BYTES} bytes."
            self._kill()
        status = await self._process.wait()
        said = f" It said: {self._last_said}" if self._last_said else ""
        self.why = self.why or f"The program ended (exit status {status}).{said}"
        self.closed.set()
        for answered in self._asked.values():
            if not answered.done():
                answered.set_exception(ServerGone(self.why))

    async def _take(self, line: bytes) -> None:
        try:
            message = msgspec.json.decode(line)
        except msgspec.DecodeError:
            get_logger("openclaw").warning("no message of MCP", server=self._name)
            return
        number = message.get("id") if isinstance(message, dict) else None
        answered = self._asked.get(number) if isinstance(number, int) else None
        if answered is not None and "method" not in message:
            if not answered.done():
                answered.set_result(message)
        elif reply := self.heard(message):
            with suppress(ServerGone):
                await self._send(reply)

    async def _hear_complaints(self) -> None:
        assert self._process.stderr  # noqa: S101  it was asked for
        with suppress(ValueError):
            async for line in self._process.stderr:
                said = redact(line.decode(errors="replace").strip())[:300]
                self._last_said = said or self._last_said
                get_logger("openclaw").info("mcp server said", server=self._name, text=said)
