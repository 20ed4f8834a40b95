"""What a turn is made of: the request, and the events it comes back as.

Voice, the gateway's routes and scheduled work all speak of turns and know no more than this.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, Protocol, runtime_checkable

import msgspec

from sonia.types import DEFAULT_USER, Message, Origin, Usage, Value

MAX_TEXT_CHARS = 32_000
# What of the answer reached the person; may wait until the last of it has.
Reached = Callable[[], Awaitable[str]]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT_CHARS)]


class TurnRequest(Value):
    """Somebody said something.

    Without a `session_id` a new session begins. With `wait_for_approval` a tool call that needs
    a person holds the turn until it is answered or expires; without, the turn ends saying so.
    `metadata` is kept with a session that this turn begins. A client that holds the conversation
    itself gives what was said before as `history`, oldest first, and that of the session is not
    read. `max_answer_tokens` lowers the configured limit. Nobody is there when it is `unattended`.
    `origins` says where the words came from, when that was not the owner alone.
    """

    text: Text
    session_id: str | None = None
    user_id: str = DEFAULT_USER
    profile: str = "chat_low_latency"
    model: str | None = None
    wait_for_approval: bool = False
    metadata: dict[str, Any] = {}
    history: tuple[Message, ...] | None = None
    max_answer_tokens: int | None = None
    unattended: bool = False
    origins: tuple[Origin, ...] = ()


class TurnStarted(Value, tag="turn.started"):
    """The first event of every turn."""

    turn_id: str
    session_id: str


class ResponseDelta(Value, tag="response.delta"):
    """The next piece of the answer; pieces join without separators."""

    turn_id: str
    text: str


class ToolCalled(Value, tag="tool.call"):
    """The model proposed this call; nothing has run yet."""

    turn_id: str
    name: str
    arguments: dict[str, Any]


class ApprovalNeeded(Value, tag="approval.required"):
    """A person has to answer before this call may run."""

    turn_id: str
    approval_id: str
    action_id: str
    tool: str
    preview: str
    risk_tier: int
    expires_at: dt.datetime


class ToolAnswered(Value, tag="tool.result"):
    """What became of the call."""

    turn_id: str
    action_id: str
    name: str
    status: str
    result: dict[str, Any] | None = None
    message: str | None = None


class MemoryUse(Value):
    """How many memories went into the prompt, and how many were made."""

    retrieved: int = 0
    written: int = 0


class ToolUse(Value):
    """One tool call of a turn, in the order made. `sent` are the addresses that it asked."""

    action_id: str
    name: str
    arguments: dict[str, Any]
    status: str
    approval_id: str | None = None
    sent: tuple[str, ...] = ()


class Provenance(Value):
    """Where the answer came from."""

    memories: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    tainted: bool = False


class Reply(Value):
    """A finished turn, whole."""

    response: str
    session_id: str
    turn_id: str
    model: str
    provider: str
    usage: Usage
    cost_usd: float | None
    memory: MemoryUse
    tool_calls: tuple[ToolUse, ...]
    provenance: Provenance


class TurnDone(Value, tag="response.done"):
    """The last event of a turn that succeeded."""

    turn_id: str
    data: Reply


TurnEvent = TurnStarted | ResponseDelta | ToolCalled | ApprovalNeeded | ToolAnswered | TurnDone


@runtime_checkable
class Turns(Protocol):
    """The one code path from something said to something answered."""

    def turn(
        self, request: TurnRequest, *, reached: Reached | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[TurnEvent]]:
        """Enter to begin; iterate for the events; leave early to cancel.

        What had reached the caller when it left is what history keeps; or, where being handed a
        piece is not yet hearing it, what `reached` tells: asked once the answer is whole, and
        again if the turn is left before it has answered. Errors come out of the iterator as
        `SoniaError`.
        """
        ...

    async def expect(
        self, session_id: str, *, user_id: str = DEFAULT_USER, so_far: str = ""
    ) -> None:
        """Somebody begins to say something: have ready what the answer will build on.

        `so_far` is what was understood of it until now. Returns when it is ready; changes nothing
        but how soon the answer comes. Cancel it freely.
        """
        ...

    def soon(self) -> None:
        """Somebody is probably about to ask: let nothing else be under way then."""
        ...
