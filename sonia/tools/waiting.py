"""Actions that wait for a person."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator

import msgspec

from sonia.tools.catalogue import Prepared
from sonia.tools.interface import Call, Outcome
from sonia.types import ApprovalId, now


class Action(msgspec.Struct, kw_only=True, eq=False):
    """One call on its way. `taken` is set by whoever ends it; nobody else may then.

    `outcome` is the last thing known, `done` says that it is final.
    """

    id: str
    call: Call
    prepared: Prepared
    created_at: dt.datetime = msgspec.field(default_factory=now)
    outcome: Outcome | None = None
    taken: bool = False
    watch: asyncio.Task[None] | None = None
    done: asyncio.Event = msgspec.field(default_factory=asyncio.Event)


class Waiting:
    """The actions of this process that are not settled yet."""

    def __init__(self) -> None:
        self._actions: dict[str, Action] = {}

    def add(self, action: Action) -> None:
        """From now on it can be found."""
        self._actions[action.id] = action

    def find(self, action_id: str) -> Action | None:
        """None when it is settled or was never here."""
        return self._actions.get(action_id)

    def untaken(self, approval_id: ApprovalId) -> Iterator[Action]:
        """Those that wait for this approval, oldest first."""
        for action in list(self._actions.values()):
            if not action.taken and action.outcome and action.outcome.approval_id == approval_id:
                yield action

    def settle(self, action: Action, outcome: Outcome) -> None:
        """Let go of it, and of everyone who waits for it."""
        action.outcome = outcome
        action.done.set()
        self._actions.pop(action.id, None)

    def close(self) -> None:
        """Stop watching."""
        for action in self._actions.values():
            if action.watch:
                action.watch.cancel()
