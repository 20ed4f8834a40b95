"""The tool calls of one turn: have each judged, wait for a person if need be, tell the model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec

from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.tools import Call, Outcome, Tools
from sonia.turn import ApprovalNeeded, ToolAnswered, ToolCalled, ToolUse, TurnEvent
from sonia.types import Message, Origin, ToolCall, now

# What a tool brings that is the owner's own: it must not leave this machine unasked.
PRIVATE: frozenset[Origin] = frozenset(("file", "memory", "tool"))


class Acting:
    """What one turn does with tools.

    `origins` is where the words came from that the model has seen so far; each call is judged by
    them, and by whether something `private` is in it. `question` is set when a call waits for a
    person and the turn does not.
    """

    def __init__(
        self,
        tools: Tools,
        *,
        turn_id: str,
        session_id: str,
        wait: bool,
        user_id: str | None = None,
        unattended: bool = False,
    ) -> None:
        self._tools = tools
        self._turn_id = turn_id
        self._session_id = session_id
        self._wait = wait
        self._user_id = user_id
        self._unattended = unattended
        self._answer = ""
        self.origins: set[Origin] = {"model"}
        self.private = False
        self.waited_s = 0.0
        self.used: list[ToolUse] = []
        self.question: str | None = None

    @property
    def tainted(self) -> bool:
        """Whether content from outside has come into the turn."""
        return bool(self.origins - {"owner", "model"})

    async def use(self, call: ToolCall) -> AsyncGenerator[TurnEvent, None]:
        """Do as control decides, telling each step. Left early, a waiting question is given up."""
        yield ToolCalled(turn_id=self._turn_id, name=call.name, arguments=call.arguments)
        try:
            outcome = await self._tools.execute(self._call(call))
        except SoniaError as error:
            yield self._refused(call, error)
            return
        if outcome.status == "approval_required":
            settled = False
            try:
                yield self._asked(outcome)
                if self._wait:
                    outcome = await self._settled(outcome)
                settled = True
            finally:
                if self._wait and not settled:
                    await asyncio.shield(self._tools.withdraw(outcome.action_id))
        self._keep(call, outcome)
        if outcome.status == "approval_required":
            self.question = _waiting(outcome)
        else:
            yield self._answered(outcome)

    async def _settled(self, asked: Outcome) -> Outcome:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        try:
            return await self._tools.settled(asked.action_id)
        finally:
            self.waited_s += loop.time() - began_s

    def exchange(self, call: ToolCall) -> tuple[Message, Message]:
        """The call and what became of it, as the model is shown them."""
        return (
            Message(role="assistant", content="", tool_calls=(call,)),
            Message(role="tool", content=self._answer, tool_call_id=call.id),
        )

    def _call(self, call: ToolCall) -> Call:
        return Call(
            tool_name=call.name,
            args=call.arguments,
            origins=tuple(sorted(self.origins)),
            session_id=self._session_id,
            follow_up=True,
            user_id=self._user_id,
            private=self.private,
            unattended=self._unattended,
        )

    def _keep(self, call: ToolCall, outcome: Outcome) -> None:
        if brings := self._tools.describe(outcome.tool).brings:
            self.origins.add(brings)
            self.private |= brings in PRIVATE
        self.used.append(
            ToolUse(
                action_id=outcome.action_id,
                name=outcome.tool,
                arguments=call.arguments,
                status=outcome.status,
                approval_id=outcome.approval_id,
                sent=tuple(sent.url for sent in outcome.sent),
            )
        )
        if outcome.status == "executed":
            self._answer = msgspec.json.encode(outcome.result or {}).decode()
        else:
            self._answer = f"{outcome.tool} was not run ({outcome.status}): {_why(outcome)}"

    def _refused(self, call: ToolCall, error: SoniaError) -> ToolAnswered:
        get_logger("api-gateway").info("tool refused", tool=call.name, reason=error.message)
        self.used.append(
            ToolUse(action_id="", name=call.name, arguments=call.arguments, status="failed")
        )
        self._answer = f"{call.name} was not run: {error.message}"
        return ToolAnswered(
            turn_id=self._turn_id,
            action_id="",
            name=call.name,
            status="failed",
            message=error.message,
        )

    def _asked(self, outcome: Outcome) -> ApprovalNeeded:
        return ApprovalNeeded(
            turn_id=self._turn_id,
            approval_id=outcome.approval_id or "",
            action_id=outcome.action_id,
            tool=outcome.tool,
            preview=outcome.preview or "",
            risk_tier=outcome.risk,
            expires_at=outcome.expires_at or now(),
        )

    def _answered(self, outcome: Outcome) -> ToolAnswered:
        return ToolAnswered(
            turn_id=self._turn_id,
            action_id=outcome.action_id,
            name=outcome.tool,
            status=outcome.status,
            result=outcome.result,
            message=_why(outcome),
        )


def _why(outcome: Outcome) -> str:
    return outcome.error.message if outcome.error else outcome.decision.reason


def _waiting(outcome: Outcome) -> str:
    return (
        f"I need your approval to use {outcome.tool}: {outcome.preview}\n"
        f"Approve it with: sonia approvals approve {outcome.approval_id}"
    )
