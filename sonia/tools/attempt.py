"""One run of a tool, whatever happens in it: an ending, never an exception."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from sonia.errors import Internal, SoniaError
from sonia.log import get_logger
from sonia.tools.catalogue import Prepared
from sonia.tools.interface import ActionError, Status, ToolFailed
from sonia.tools.tool import Grant, TimedOut
from sonia.types import Value

VERIFY_S = 10.0
SHORTEST = 256


class Ending(Value):
    """How a run ended."""

    status: Status
    result: dict[str, Any] | None = None
    verification: dict[str, Any] | None = None
    error: ActionError | None = None


def failure(error: SoniaError, status: Status = "failed") -> Ending:
    """An ending without a result; what a tool had by then is kept."""
    had = error.details if isinstance(error, ToolFailed) and error.details else None
    return Ending(
        status=status, result=had, error=ActionError(code=error.code, message=error.message)
    )


async def attempt(prepared: Prepared, grant: Grant, max_bytes: int) -> Ending:
    """Run within `grant`, then look whether it happened. Cancelling stops the tool."""
    ending = await _run(prepared, grant)
    if ending.status == "executed" and ending.result is not None:
        seen = await _verify(prepared, ending.result)
        ending = msgspec.structs.replace(ending, verification=seen)
    if ending.result is not None:
        ending = msgspec.structs.replace(ending, result=bounded(ending.result, max_bytes))
    return ending


async def _run(prepared: Prepared, grant: Grant) -> Ending:
    tool = prepared.tool
    try:
        async with asyncio.timeout(None if tool.keeps_time else grant.timeout_s):
            return Ending(status="executed", result=await tool.run(prepared.args, grant))
    except TimedOut as error:
        return failure(_late(error.message, error.details), "timeout")
    except TimeoutError:
        return failure(_late(f"{tool.name} took longer than {grant.timeout_s:g} s."), "timeout")
    except SoniaError as error:
        return failure(error)
    except Exception as error:  # noqa: BLE001  the seam: a tool's fault is an outcome
        get_logger("openclaw").error("tool broke", tool=tool.name, exc_info=error)
        return failure(Internal(f"{tool.name} failed. The log has the details under this id."))


async def _verify(prepared: Prepared, result: dict[str, Any]) -> dict[str, Any] | None:
    try:
        async with asyncio.timeout(VERIFY_S):
            seen: dict[str, Any] | None = await prepared.tool.verify(prepared.args, result)
            return seen
    except (SoniaError, TimeoutError) as error:
        return {"ok": False, "reason": str(error) or f"no answer within {VERIFY_S:g} s"}
    except Exception as error:  # noqa: BLE001  it ran; only looking at it failed
        get_logger("openclaw").error("verification broke", tool=prepared.tool.name, exc_info=error)
        return {"ok": False, "reason": "it could not be looked at"}


class _Late(ToolFailed):
    """A tool's time ran out."""

    code = "upstream_timeout"
    status = 504


def _late(message: str, had: dict[str, Any] | None = None) -> _Late:
    return _Late(message, **(had or {}))


def bounded(result: dict[str, Any], max_bytes: int) -> dict[str, Any]:
    """`result` in at most `max_bytes` of JSON: the largest text or list is cut at its end."""
    size = _size(result)
    while size > max_bytes:
        name = max(result, key=lambda key: _size(result[key]))
        value = result[name]
        if not isinstance(value, str | list) or len(value) < 2:
            return {"output_cut": True}
        over = max((size - max_bytes) * len(value) // max(_size(value), 1), SHORTEST)
        keep = max(len(value) - over - 1, len(value) // 2) if over < len(value) else len(value) // 2
        result = {**result, name: value[:keep], "output_cut": True}
        size = _size(result)
    return result


def _size(value: Any) -> int:
    return len(msgspec.json.encode(value))
