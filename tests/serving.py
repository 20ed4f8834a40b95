"""Routes on a real server, in the test's own loop, in front of whatever router a test gives."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from litestar import Litestar, Router

from sonia.envelope import exception_handlers
from sonia.gateway import Doorway, FrontDoor


class _Quiet(uvicorn.Server):
    """uvicorn that says when it has started, and leaves signals to pytest."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(
    handlers: Sequence[Any],
    *,
    below: str = "/v1",
    sockets: Mapping[str, Any] | None = None,
    **door: Any,
) -> AsyncIterator[str]:
    """Enter for the URL of a gateway with these routes below `/v1`, or `below`.

    `sockets` is what uvicorn is told of WebSockets.
    """
    app = Litestar(
        [Router(path=below, route_handlers=list(handlers))],
        exception_handlers=exception_handlers(),
        logging_config=None,
        openapi_config=None,
    )
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        gateway = Doorway(service="api-gateway", prefix="", segments=frozenset({"v1"}))
        settings: Mapping[str, Any] = {"max_body_bytes": 100_000, "receive_timeout_s": 5.0, **door}
        front = FrontDoor(app, ports={port: gateway}, doorways=[gateway], **settings)
        config = uvicorn.Config(
            front,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="websockets-sansio",
            **(sockets or {}),
        )
        server = _Quiet(config)
        running = asyncio.create_task(server._serve([sock]))
        await server.up.wait()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = server.force_exit = True
            await running
