"""Six sockets, one app, one server: binding, signals and draining."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import uvicorn
from litestar import Litestar, Request, Router, get
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin

from sonia.app import MODULES, Sonia, open_sonia
from sonia.config import Config, Listen
from sonia.control.http import routes as control_routes
from sonia.envelope import current, exception_handlers
from sonia.errors import Conflict
from sonia.gateway import Doorway, FrontDoor, completions
from sonia.gateway.http import routes as gateway_routes
from sonia.health import health_routes
from sonia.intake import Intake
from sonia.memory.http import intakes as memory_intakes
from sonia.memory.http import routes as memory_routes
from sonia.router.http import routes as router_routes
from sonia.running import Running, announce
from sonia.tools import Workspace
from sonia.tools.http import routes as tools_routes
from sonia.types import Value, now, rfc3339
from sonia.version import VERSION
from sonia.voice.http import routes as voice_routes

BACKLOG = 512


class Service(Value):
    """One of the six: module, name in answers, key in the configuration, prefix of its routes."""

    module: str
    name: str
    key: str
    prefix: str


SERVICES = (
    Service(module="gateway", name="api-gateway", key="api_gateway", prefix=""),
    Service(module="router", name="model-router", key="model_router", prefix="/router"),
    Service(module="memory", name="memory-engine", key="memory_engine", prefix="/memory"),
    Service(module="voice", name="pipecat", key="pipecat", prefix="/voice"),
    Service(module="tools", name="openclaw", key="openclaw", prefix="/tools"),
    Service(module="control", name="eva-os", key="eva_os", prefix="/control"),
)


class PortInUse(Conflict):
    """Another program listens there; the message names it."""


@contextmanager
def bind(config: Config, modules: Collection[str] = MODULES) -> Iterator[dict[str, socket.socket]]:
    """Listen on every port of `modules`, or on none. Raises `PortInUse`."""
    bound: dict[str, socket.socket] = {}
    try:
        for service in SERVICES:
            if service.module in modules:
                listen: Listen = getattr(config.services, service.key)
                bound[service.module] = _listen(service, listen)
        yield bound
    finally:
        for sock in bound.values():
            sock.close()


def _listen(service: Service, listen: Listen) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's delay on: 40 ms for a request in two segments.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((listen.host, listen.port))
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise PortInUse(
            f"Port {listen.port} ({service.name}) can't be used: {_holder(listen.port, error)}. "
            f"Stop it, or set services.{service.key}.port to another port (0 takes a free one).",
            port=listen.port,
            service=service.name,
        ) from error
    sock.setblocking(False)
    return sock


def _holder(port: int, error: OSError) -> str:
    if error.errno != errno.EADDRINUSE:
        return error.strerror or str(error)
    import psutil

    try:
        pids = [
            link.pid
            for link in psutil.net_connections("tcp")
            if link.status == psutil.CONN_LISTEN and link.laddr.port == port and link.pid
        ]
        names = [" ".join(psutil.Process(pid).cmdline()[:4]) for pid in pids]
    except psutil.Error:
        pids, names = [], []
    if not pids:
        return "another program listens there (this user may not see which)"
    return f"{names[0] or 'a program'} (pid {pids[0]}) listens there"


def ports_of(bound: Mapping[str, socket.socket]) -> dict[str, int]:
    """The port of each bound module."""
    return {module: sock.getsockname()[1] for module, sock in bound.items()}


# --- the app -----------------------------------------------------------------------------


def build(sonia: Sonia, ports: Mapping[str, int], stopping: asyncio.Event) -> FrontDoor:
    """One ASGI app with the routes of every module in `ports`, behind the front door.

    Streams that have no end of their own end when `stopping` is set.
    """
    served = [service for service in SERVICES if service.module in ports]
    probes = sonia.probes()
    handlers: list[Router] = []
    for service in served:
        handlers.append(_routes(sonia, service.module, stopping))
        handlers.append(health_routes(service.prefix or "/", service.name, probes[service.module]))
    app = Litestar(
        route_handlers=[*handlers, _openapi],
        exception_handlers=exception_handlers(),
        before_request=_name_operation,
        openapi_config=OpenAPIConfig(
            title="Sonia",
            version=VERSION,
            path="/docs",
            render_plugins=[JsonRenderPlugin(path="/openapi.json")],
        ),
        request_max_body_size=None,
        logging_config=None,
    )
    gateway = sonia.config.services.api_gateway
    doorways = {service.module: _doorway(app, service) for service in served}
    return FrontDoor(
        app,
        ports={ports[module]: door for module, door in doorways.items()},
        doorways=doorways.values(),
        max_body_bytes=gateway.max_body_bytes,
        receive_timeout_s=gateway.request_timeout_s,
        hosts=gateway.allowed_hosts,
        origins=gateway.allowed_origins,
        admit=sonia.keyring.admit,
        intakes=_intakes(sonia, ports),
        express=_express(sonia, ports),
    )


def _express(sonia: Sonia, modules: Collection[str]) -> dict[tuple[str, str], Any]:
    """The route that relays: at its rates the framework's own time is felt."""
    if "gateway" not in modules:
        return {}
    return {("POST", "/v1/chat/completions"): completions(sonia.answers)}


def _intakes(sonia: Sonia, modules: Collection[str]) -> dict[str, Intake]:
    """The paths that take uploads, of every module served: `{"/memory/…": Intake(…)}`."""
    taken: dict[str, Intake] = {}
    if "memory" in modules:
        taken |= memory_intakes(sonia.config.services.memory_engine)
    if "gateway" not in modules:
        return taken
    sound = Intake(
        media_types=("multipart/form-data",),
        max_body_bytes=sonia.config.services.pipecat.max_audio_bytes,
    )
    return taken | {"/v1/audio/transcriptions": sound, "/v1/audio/translations": sound}


def _routes(sonia: Sonia, module: str, stopping: asyncio.Event) -> Router:
    match module:
        case "gateway":
            return gateway_routes(
                turns=sonia.turns,
                tools=sonia.tools,
                control=sonia.control,
                operator=sonia.operator,
                memory=sonia.memory,
                speech=sonia.speech,
                longest_audio_s=sonia.config.services.pipecat.max_audio_s,
                voice=sonia.config.services.pipecat.voice,
                answers=sonia.answers,
                responses=sonia.responses,
                backups=sonia.backups,
                purging=sonia.purging,
                keyring=sonia.keyring,
                bus=sonia.bus,
                stopping=stopping,
            )
        case "router":
            return Router(
                path="/router", route_handlers=router_routes(sonia.router, sonia.operator)
            )
        case "memory":
            limit = sonia.config.services.memory_engine.documents.max_bytes
            files = Workspace(sonia.config.workspace, limit)
            return memory_routes(sonia.memory, sonia.documents, files)
        case "voice":
            return voice_routes(sonia.voice, sonia.speech)
        case "tools":
            return tools_routes(sonia.tools, sonia.operator)
        case _:
            return control_routes(sonia.control, sonia.operator, sonia.tasks, sonia.tools)


def _doorway(app: Litestar, service: Service) -> Doorway:
    own = [route.path for route in app.routes if route.path.startswith(f"{service.prefix}/")]
    rests = [path.removeprefix(service.prefix).lstrip("/") for path in own]
    segments = frozenset(rest.partition("/")[0] for rest in rests)
    return Doorway(service=service.name, prefix=service.prefix, segments=segments)


@get("/openapi.json", include_in_schema=False, sync_to_thread=False)
def _openapi(request: Request[Any, Any, Any]) -> dict[str, Any]:
    return request.app.openapi_schema.to_schema()


async def _name_operation(request: Request[Any, Any, Any]) -> None:
    current().operation = request.route_handler.handler_name


# --- running it --------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn that says when it has started and when it stops, and leaves signals to `serve`."""

    def __init__(
        self, config: uvicorn.Config, started: Callable[[], None], stopping: asyncio.Event
    ) -> None:
        super().__init__(config)
        self._tell_started = started
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._tell_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


Host = Callable[[Sonia, Running], Awaitable[None]]


async def serve(
    config: Config, bound: Mapping[str, socket.socket], *, host: Host | None = None
) -> None:
    """Serve on the bound sockets until a signal; return when everything has stopped.

    `host` runs beside it from the moment connections are accepted, to tell a person how it goes.

    The first SIGINT or SIGTERM stops accepting and lets in-flight work end within
    `shutdown.grace_s`; a second one ends it at once.
    """
    ports = ports_of(bound)
    async with open_sonia(config, modules=tuple(bound)) as sonia:
        running = Running(
            pid=os.getpid(),
            started_at=rfc3339(now()),
            version=VERSION,
            host=config.services.api_gateway.host,
            ports={item.name: ports[item.module] for item in SERVICES if item.module in ports},
        )

        hosting: list[asyncio.Future[None]] = []

        def started() -> None:
            announce(config.data, running)
            if host:
                hosting.append(asyncio.ensure_future(host(sonia, running)))

        stopping = asyncio.Event()
        app = build(sonia, ports, stopping)
        server = _Server(_settings(config, app), started, stopping)
        with _signals(server):
            await server.serve(sockets=list(bound.values()))
        for task in hosting:
            task.cancel()
        await asyncio.gather(*hosting, return_exceptions=True)


def _settings(config: Config, app: FrontDoor) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=config.services.pipecat.max_message_bytes,
        ws_per_message_deflate=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(config.shutdown.grace_s)),
    )


@contextmanager
def _signals(server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    kinds = [signal.SIGINT, signal.SIGTERM]

    def stop() -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    try:
        for kind in kinds:
            loop.add_signal_handler(kind, stop)
    except NotImplementedError:  # Windows
        for kind in kinds:
            signal.signal(kind, lambda *_: loop.call_soon_threadsafe(stop))
        yield
        return
    try:
        yield
    finally:
        for kind in kinds:
            loop.remove_signal_handler(kind)
