"""A request's body on its way in: its type, its size, and how long it may take."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

from sonia.errors import InvalidRequest, PayloadTooLarge, UpstreamTimeout
from sonia.intake import Intake

MEDIA_TYPES = ("application/json", "application/problem+json")


class ReceiveTimeout(UpstreamTimeout):
    """The body did not arrive in time."""

    code = "invalid_request"
    status = 408
    retryable = False


def check_type(headers: Mapping[str, list[str]], accepted: Collection[str]) -> None:
    kind = one(headers, "content-type").partition(";")[0].strip().lower()
    if kind in accepted:
        return
    right = (
        "JSON with the header 'Content-Type: application/json'"
        if accepted is MEDIA_TYPES
        else " or ".join(accepted)
    )
    raise InvalidRequest(
        f"The body's content type is {kind or 'missing'!r}. Send {right}.", content_type=kind
    )


def upload(intake: Intake, headers: Mapping[str, list[str]], receive: Any) -> Any:
    """A `receive` that hands an upload on as it arrives, and refuses one that is too much."""
    length = one(headers, "content-length")
    if length.isdigit() or headers.get("transfer-encoding"):
        check_type(headers, intake.media_types)
    if length.isdigit() and int(length) > intake.max_body_bytes:
        raise too_large(intake.max_body_bytes)
    size, whole = 0, False

    async def bounded() -> dict[str, Any]:
        nonlocal size, whole
        if whole:  # what comes now is the client going away, however late
            message: dict[str, Any] = await receive()
            return message
        try:
            async with asyncio.timeout(intake.idle_timeout_s):
                message = await receive()
        except TimeoutError as error:
            raise ReceiveTimeout(
                f"Nothing more of the body arrived for {intake.idle_timeout_s:g} s."
            ) from error
        size += len(message.get("body", b""))
        if size > intake.max_body_bytes:
            raise too_large(intake.max_body_bytes)
        whole = not message.get("more_body", False)
        return message

    return bounded


def too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"The body is over {limit} bytes.", limit_bytes=limit)


def replayed(body: bytes, gone: bool, receive: Any) -> Any:
    told = False

    async def again() -> dict[str, Any]:
        nonlocal told
        if gone:
            return {"type": "http.disconnect"}
        if not told:
            told = True
            return {"type": "http.request", "body": body, "more_body": False}
        message: dict[str, Any] = await receive()
        return message

    return again


def one(headers: Mapping[str, list[str]], name: str) -> str:
    values = headers.get(name, [])
    return values[0] if len(values) == 1 else ""
