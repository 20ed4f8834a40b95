"""The four plain routes that every service has: `/healthz`, `/status`, `/version`, `/`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from litestar import Response, Router, get

from sonia.errors import SoniaError, UpstreamTimeout
from sonia.types import now, rfc3339
from sonia.version import VERSION

Probe = Callable[[], Awaitable[dict[str, Any]]]

PROBE_TIMEOUT_S = 2.0


class Health(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bare answer of `/healthz`; `reason` only when `ok` is false."""

    ok: bool
    service: str
    timestamp: str
    reason: str | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The bare answer of `/`."""

    service: str
    status: str
    version: str


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The bare answer of `/status`: `detail` is the service's own account."""

    service: str
    status: str
    version: str
    timestamp: str
    detail: dict[str, Any]
    reason: str | None = None


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """The bare answer of `/version`."""

    service: str
    version: str


async def ask(probe: Probe) -> tuple[dict[str, Any], str | None]:
    """Return the probe's detail, and the reason when the service can't do its job."""
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            return await probe(), None
    except TimeoutError:
        return {}, UpstreamTimeout(f"No answer within {PROBE_TIMEOUT_S:g} s.").message
    except SoniaError as error:
        return error.details, error.message


def health_routes(prefix: str, service: str, probe: Probe) -> Router:
    """The four routes of one service, below `prefix`."""

    @get("/healthz", operation_id=f"{service}-healthz")
    async def healthz() -> Response[Health]:
        _, reason = await ask(probe)
        health = Health(ok=reason is None, service=service, timestamp=rfc3339(now()), reason=reason)
        return Response(health, status_code=200 if reason is None else 503)

    @get("/status", operation_id=f"{service}-status")
    async def status() -> Status:
        detail, reason = await ask(probe)
        return Status(
            service=service,
            status="ok" if reason is None else "down",
            version=VERSION,
            timestamp=rfc3339(now()),
            detail=detail,
            reason=reason,
        )

    @get("/version", operation_id=f"{service}-version")
    async def show_version() -> Version:
        return Version(service=service, version=VERSION)

    @get("/", operation_id=f"{service}-index")
    async def index() -> Summary:
        _, reason = await ask(probe)
        return Summary(
            service=service,
            status="ok" if reason is None else "down",
            version=VERSION,
        )

    handlers = [healthz, status, show_version, index]
    return Router(path=prefix, route_handlers=handlers, tags=[service])
