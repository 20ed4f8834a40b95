"""Calls of tools over `/mcp`: answered at once, or by a stream that stays open meanwhile.

A client that shows its person questions (elicitation) shows them what is asked. There they may
say no; a yes counts only from the owner, by the operator's token, and never from a client.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from sonia.client import ClientGone, while_connected
from sonia.envelope import translate
from sonia.errors import Internal, SoniaError
from sonia.gateway import mcp_wire as wire
from sonia.gateway.mcp_sessions import Session
from sonia.gateway.mcp_streams import HEARTBEAT_S, Told
from sonia.gateway.mcp_tools import Caller, OfferedTools, failed
from sonia.gateway.mcp_wire import Incoming, Mistake
from sonia.log import get_logger
from sonia.tools import Outcome
from sonia.types import Value, new_id

MOST_OPEN = 256
CANCELLED = 0  # what servers commonly say; the protocol has no number for it
QUESTION = "consent"


class Asked(Value):
    """A question whose client is to come back for the answer."""

    caller: Caller
    action_id: str


class Call:
    """One call under way. `told` ends with its answer."""

    def __init__(
        self, message: Incoming, request_id: wire.Id, caller: Caller, session: Session | None
    ) -> None:
        self.message, self.request_id = message, request_id
        self.caller, self.session = caller, session
        self.told = session.opened() if session else Told()
        self._doing = f"{str(message.params.get('name'))[:100]} is running."
        self._token = message.meta.get("progressToken")
        self._steps = 0
        if self._token is not None:
            self.told.beat = self._progress

    def waits(self, asked: Outcome) -> None:
        """Say that a person was asked."""
        self._doing = (
            f"Waiting for consent to {asked.tool}. The owner answers with: "
            f"sonia approvals approve {asked.approval_id}"
        )
        self.told.say(self._progress()) if self._token is not None else self.told.begun.set()

    def follow(self, work: asyncio.Task[dict[str, Any]]) -> None:
        """From now on `told` ends when `work` does, and `work` when nobody listens any more."""
        self.told.abandoned = work.cancel
        work.add_done_callback(lambda _: self.told.end(self.answer(work)))

    def answer(self, work: asyncio.Task[dict[str, Any]]) -> bytes:
        """The response to the request."""
        try:
            result = work.result()
        except asyncio.CancelledError:
            return wire.failure(self.request_id, Mistake(CANCELLED, "The call was cancelled."))
        except Mistake as mistake:
            return wire.failure(self.request_id, mistake)
        except Exception as error:  # noqa: BLE001  every failure is the stream's last message
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("api-gateway").error("call failed", exc_info=error)
            return wire.failure(self.request_id, Mistake(wire.INTERNAL_ERROR, known.message))
        return wire.told(self.message, self.request_id, result)

    def _progress(self) -> bytes:
        self._steps += 1
        params = {"progressToken": self._token, "progress": self._steps, "message": self._doing}
        return wire.notification("notifications/progress", params)


class Calls:
    """All of them."""

    def __init__(self, tools: OfferedTools, stopping: asyncio.Event) -> None:
        self._tools = tools
        self._stopping = stopping
        self._asked: OrderedDict[str, Asked] = OrderedDict()

    async def take(self, call: Call, request: wire.Http) -> bytes | AsyncIterator[bytes]:
        """The answer, or events that end with it when it takes longer. Raises `Mistake`."""
        work = asyncio.create_task(self._work(call))
        if call.session:
            call.session.began(call.request_id, work)
        try:
            await while_connected(request.receive, _soon(work, call.told.begun))
            if work.done() and work.cancelled():
                raise ClientGone("The call was cancelled.")
            if work.done() and not call.told.begun.is_set():
                return wire.told(call.message, call.request_id, work.result())
        except BaseException:
            work.cancel()
            raise
        call.follow(work)
        return self._events(call, work)

    async def replied(self, session: Session, reply: wire.Replied) -> None:
        """What a client's person said to a question: a no counts."""
        action_id = session.asked.pop(reply.id, None)
        if action_id and reply.result and reply.result.get("action") == "decline":
            await self._tools.withdraw(action_id)

    async def _events(self, call: Call, work: asyncio.Task[Any]) -> AsyncIterator[bytes]:
        primed = call.session is not None and call.session.primed
        try:
            async for event in call.told.follow(self._stopping, primed=primed):
                yield event
        finally:
            if call.session is None:  # hanging up is how the newer era cancels
                work.cancel()
                await asyncio.wait({work})

    async def _work(self, call: Call) -> dict[str, Any]:
        params, comes_back = call.message.params, call.message.params.get("requestState")
        try:
            if comes_back is None:
                outcome = await self._tools.begin(call.caller, params)
            else:
                outcome = await self._resume(call.caller, params)
            if outcome.status == "approval_required":
                meta = call.message.meta
                asks = call.session is None and wire.can_ask(meta.get(wire.CAPABILITIES))
                if asks and comes_back is None:
                    return self._input_required(call.caller, outcome)
                outcome = await self._consented(call, outcome)
        except SoniaError as error:  # wrong arguments, too many questions: for its model to read
            return failed(error.message)
        return self._tools.result(call.caller, outcome)

    async def _consented(self, call: Call, asked: Outcome) -> Outcome:
        """Wait for the person, who is shown the question where the client can."""
        call.waits(asked)
        session = call.session
        if session is None or not session.can_ask:
            return await self._tools.answered(asked.action_id)
        number = session.number("ask")
        session.asked[number] = asked.action_id
        call.told.say(wire.request(number, "elicitation/create", wire.asking(_question(asked))))
        try:
            return await self._tools.answered(asked.action_id)
        finally:
            if session.asked.pop(number, None):
                over = {"requestId": number, "reason": "It was answered."}
                call.told.say(wire.notification("notifications/cancelled", over))

    def _input_required(self, caller: Caller, asked: Outcome) -> dict[str, Any]:
        """Have the newer era's client ask, and come back with a name for what it waits for."""
        state = new_id("mcpq")
        self._asked[state] = Asked(caller=caller, action_id=asked.action_id)
        while len(self._asked) > MOST_OPEN:
            self._asked.popitem(last=False)
        question = {"method": "elicitation/create", "params": wire.asking(_question(asked))}
        return {
            "resultType": "input_required",
            "inputRequests": {QUESTION: question},
            "requestState": state,
        }

    async def _resume(self, caller: Caller, params: dict[str, Any]) -> Outcome:
        """What a question is about. Its arguments stay those that the person was shown."""
        asked = self._asked.pop(str(params["requestState"]), None)
        if asked is None or asked.caller != caller:
            raise Mistake(wire.INVALID_PARAMS, "requestState names no question. Call it anew.")
        responses = params.get("inputResponses")
        said = responses.get(QUESTION) if isinstance(responses, dict) else None
        if isinstance(said, dict) and said.get("action") == "decline":
            await self._tools.withdraw(asked.action_id)
        return await self._tools.action(asked.action_id)


async def _soon(work: asyncio.Task[Any], begun: asyncio.Event) -> None:
    """Wait for the work's end, what it says, or as long as a line may be silent."""
    saying = asyncio.ensure_future(begun.wait())
    try:
        await asyncio.wait({work, saying}, timeout=HEARTBEAT_S, return_when=asyncio.FIRST_COMPLETED)
    finally:
        saying.cancel()


def _question(asked: Outcome) -> str:
    return (
        f"{asked.preview}\n\nTo allow it, run: sonia approvals approve {asked.approval_id}\n"
        "Accept to wait for that; decline to leave it."
    )
