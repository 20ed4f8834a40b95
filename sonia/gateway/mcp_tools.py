"""Sonia's tools for other programs' models: the same catalogue, the same control.

What such a model has read elsewhere can't be seen from here. What it was given by these tools
can: where that came from stays with the client, as it does with a turn of Sonia's own.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import msgspec

from sonia.envelope import current
from sonia.gateway.mcp_wire import INVALID_PARAMS, Mistake
from sonia.tools import Call, Outcome, ToolInfo, ToolNotFound, Tools
from sonia.types import Origin, Value

MOST_CLIENTS = 1_024


class Caller(Value):
    """Which client calls: its session, or whose it is and what it calls itself."""

    key: str
    session_id: str | None = None


class OfferedTools:
    """The catalogue as MCP has it, and its use."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._seen: OrderedDict[str, set[Origin]] = OrderedDict()

    def listed(self) -> list[dict[str, Any]]:
        """Every tool, by name."""
        return [_described(info) for info in self._tools.catalogue()]

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever there are other tools."""
        self._tools.watch(changed)

    async def begin(self, caller: Caller, params: dict[str, Any]) -> Outcome:
        """Use a tool. Returns at once with `approval_required` when a person has to be asked.

        Raises `Mistake`, and a `SoniaError` that is for the client's model to read.
        """
        name, arguments = _named(params)
        call = Call(
            tool_name=name,
            args=arguments,
            origins=tuple(sorted(self._origins(caller))),
            session_id=caller.session_id,
            user_id=current().user_id,
            follow_up=True,
        )
        try:
            return await self._tools.execute(call)
        except ToolNotFound as error:
            raise Mistake(INVALID_PARAMS, error.message) from error

    async def answered(self, action_id: str) -> Outcome:
        """Wait until the person has answered. Cancelling takes the question back."""
        settled = False
        try:
            outcome = await self._tools.settled(action_id)
            settled = True
            return outcome
        finally:
            if not settled:
                await asyncio.shield(self._tools.withdraw(action_id))

    async def withdraw(self, action_id: str) -> None:
        """Take a question back."""
        await self._tools.withdraw(action_id)

    async def action(self, action_id: str) -> Outcome:
        """How it is with one that began earlier."""
        return await self._tools.action(action_id)

    def result(self, caller: Caller, outcome: Outcome) -> dict[str, Any]:
        """What became of it, as MCP has it; the client has then been given that."""
        if brings := self._tools.describe(outcome.tool).brings:
            self._origins(caller).add(brings)
        return _result(outcome)

    def _origins(self, caller: Caller) -> set[Origin]:
        """Where the words came from that the client's model was given; the oldest are let go."""
        found = self._seen.setdefault(caller.key, {"model"})
        self._seen.move_to_end(caller.key)
        if len(self._seen) > MOST_CLIENTS:
            self._seen.popitem(last=False)
        return found


def _named(params: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    name, arguments = params.get("name"), params.get("arguments", {})
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise Mistake(INVALID_PARAMS, "tools/call takes a name and an object of arguments.")
    return name, arguments


def _described(info: ToolInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "description": info.description,
        "inputSchema": info.arguments,
        "annotations": {
            "readOnlyHint": info.risk_tier == 0,
            "destructiveHint": info.risk_tier >= 2,
            "idempotentHint": info.risk_tier == 0,
            "openWorldHint": info.brings == "web",
        },
    }


def _result(outcome: Outcome) -> dict[str, Any]:
    told = {"sonia/action_id": outcome.action_id, "sonia/status": outcome.status}
    if outcome.status == "executed":
        result = outcome.result or {}
        text = msgspec.json.encode(result).decode()
        content = [{"type": "text", "text": text}]
        return {"content": content, "structuredContent": result, "isError": False, "_meta": told}
    why = outcome.error.message if outcome.error else outcome.decision.reason
    return failed(f"{outcome.tool} was not run ({outcome.status}): {why}") | {"_meta": told}


def failed(why: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": why}], "isError": True}
