"""What Sonia can do.

A tool is a name, a JSON Schema, a tier and three verbs: plan (what exactly would happen),
run, and look again whether it did. Nothing runs without control's decision on its plan.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from typing import Any, Literal, Protocol, runtime_checkable

from sonia.control import DeadLetter, Decision, LetterState, Plan, Replayed, Tier
from sonia.errors import Conflict, InvalidRequest, NotFound, SoniaError
from sonia.types import ApprovalId, Origin, ToolSpec, Value

Status = Literal["executed", "approval_required", "denied", "failed", "timeout", "undone"]


class ToolNotFound(NotFound):
    """No tool has this name; `details["known"]` lists those there are."""


class ArgumentsInvalid(InvalidRequest):
    """An argument is missing, unknown, of the wrong type or out of range."""


class ActionNotFound(NotFound):
    """No action has this id."""


class KeyReused(Conflict):
    """The idempotency key was used for a different call."""


class ToolFailed(SoniaError):
    """The tool ran and could not do it; `message` says why, for the person and the model."""


class NotUndoable(Conflict):
    """It can't be taken back: it is no such action, too long ago, or undone already."""


class FileChanged(Conflict):
    """A file is not what it was when the call was planned; nothing was done."""


class ToolInfo(Value):
    """What there is to know of a tool. `arguments` is a JSON Schema of type object.

    `brings` is the origin of what its results carry into a turn, None when that is Sonia's own
    word (a sum, the time): such a result makes nothing that follows more suspect. An `outbound`
    tool sends its arguments off this machine; what one did that `undoes` can be taken back.
    """

    name: str
    description: str
    arguments: dict[str, Any]
    risk_tier: Tier
    side_effects: tuple[str, ...]
    timeout_ms: int
    aliases: tuple[str, ...] = ()
    brings: Origin | None = None
    outbound: bool = False
    undoes: bool = False


class Call(Value):
    """Somebody wants a tool used.

    `approval_id` redeems an approval given for this same call. `dry_run` plans and judges, and
    neither runs nor asks: its outcome has the status that the call itself would have, and the
    result `{"dry_run": true}`. With `follow_up` an approved call runs by itself later, as it was
    planned; without it the caller comes back with the `approval_id`. `private` is true when files
    or memories of the owner have come into the turn, `unattended` when nobody waits for it.
    """

    tool_name: str
    args: dict[str, Any] = {}
    origins: tuple[Origin, ...] = ("owner",)
    session_id: str | None = None
    approval_id: ApprovalId | None = None
    dry_run: bool = False
    follow_up: bool = False
    idempotency_key: str | None = None
    timeout_ms: int | None = None
    user_id: str | None = None
    private: bool = False
    unattended: bool = False


class Sent(Value):
    """One request that left this machine, or was about to.

    `address` is what was dialled, "" when nothing was.
    """

    method: str
    url: str
    address: str
    sent_bytes: int
    received_bytes: int


class ActionError(Value):
    """Why an action failed, in the contract's codes."""

    code: str
    message: str


class Outcome(Value):
    """What became of a call. `verification` says what was looked at afterwards and found.

    `sent` is the receipt of what left this machine for it. When it is `undone`, `result` says what
    that came to.
    """

    action_id: str
    status: Status
    tool: str
    risk: Tier
    decision: Decision
    created_at: dt.datetime
    result: dict[str, Any] | None = None
    verification: dict[str, Any] | None = None
    preview: str | None = None
    approval_id: ApprovalId | None = None
    expires_at: dt.datetime | None = None
    error: ActionError | None = None
    duration_ms: float = 0.0
    sent: tuple[Sent, ...] = ()
    undoable: bool = False


class Asked(Value):
    """Who wants something done: whence the words, in which session, and whose turn it is."""

    origins: tuple[Origin, ...] = ("owner",)
    session_id: str | None = None
    user_id: str | None = None


class Memo(Value):
    """One memory, as tools show it."""

    id: str
    content: str
    origin: Origin
    valid_from: dt.datetime


@runtime_checkable
class Remembering(Protocol):
    """What the pack `memory` needs. Everything is of the user who asks, and of nobody else."""

    async def find(self, query: str, limit: int, asked: Asked) -> tuple[Memo, ...]:
        """Best first."""
        ...

    async def keep(self, content: str, asked: Asked) -> Memo:
        """As trusted as the least of what it came from."""
        ...

    async def look(self, memory_id: str, asked: Asked) -> Memo:
        """Raises `NotFound`, also for another user's."""
        ...

    async def drop(self, memory_id: str, asked: Asked) -> None:
        """Erase it everywhere. Raises `NotFound`."""
        ...


@runtime_checkable
class Tools(Protocol):
    """The catalogue, and the only way to use what is in it. Fits control's `Planner` and
    `DeadLetters`."""

    def catalogue(self) -> tuple[ToolInfo, ...]:
        """Every tool, by name."""
        ...

    def describe(self, name: str) -> ToolInfo:
        """One tool, by name or alias. Raises `ToolNotFound`."""
        ...

    def specs(self) -> tuple[ToolSpec, ...]:
        """The same, as a model is told of them."""
        ...

    def watch(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Have `changed` called whenever there are other tools; call the result to stop."""
        ...

    async def plan(
        self,
        tool_name: str,
        args: dict[str, Any],
        *,
        origins: tuple[Origin, ...] = ("owner",),
        session_id: str | None = None,
    ) -> Plan:
        """Make a call exact without running it. Raises `ToolNotFound`, `ArgumentsInvalid`."""
        ...

    async def execute(self, call: Call) -> Outcome:
        """Plan, have it judged, and run it if that is allowed.

        Returns at once with `approval_required` when a person has to be asked. A call with an
        `idempotency_key` seen before returns the first outcome and runs nothing. Raises
        `ToolNotFound`, `ArgumentsInvalid`, `KeyReused` and control's errors of redeeming.
        """
        ...

    async def settled(self, action_id: str) -> Outcome:
        """Wait until an action is no longer `approval_required` and return it."""
        ...

    async def withdraw(self, action_id: str) -> None:
        """Give up an action that still waits for its approval."""
        ...

    async def undo(self, action_id: str, *, by: str) -> Outcome:
        """Make it as it was before, where the world allows it: for the person, never for a model.

        Raises `ActionNotFound`, `NotUndoable`, and what the tool says when its files have changed
        since; then nothing is changed.
        """
        ...

    async def action(self, action_id: str) -> Outcome:
        """Raises `ActionNotFound`."""
        ...

    async def actions(self, limit: int = 50) -> tuple[Outcome, ...]:
        """Newest first."""
        ...

    async def letters(
        self, state: LetterState | None = "open", limit: int = 100
    ) -> tuple[DeadLetter, ...]:
        """Effects that failed, newest first."""
        ...

    async def replay(self, letter_id: str) -> Replayed:
        """See control's `DeadLetters.replay`."""
        ...

    async def dismiss(self, letter_id: str) -> DeadLetter:
        """See control's `DeadLetters.dismiss`."""
        ...

    async def probe(self) -> dict[str, object]:
        """Tools, workspace and sandbox. Raises `Unavailable` when the workspace can't be used."""
        ...
