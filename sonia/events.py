"""Facts told to whoever listens.

A publisher knows no listener. `publish` waits for every listener and returns what they
returned, so a fact that was published has been dealt with; a listener that fails is logged
and does not trouble the others.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sonia.log import get_logger
from sonia.types import Value


class TurnFinished(Value):
    """A turn ended. `response` is what reached the user; `complete` is false when it was cut off.

    `tainted` is true when content from outside (a file, a page, a tool) went into the turn.
    """

    session_id: str
    turn_id: str
    user_id: str
    text: str
    response: str
    complete: bool
    at: dt.datetime
    tainted: bool = False


class Written(Value):
    """A listener's account of a `TurnFinished`: ledger rows and memories it wrote."""

    events: int
    memories: int


class Forgotten(Value):
    """Something was erased from the database: whoever keeps words elsewhere lets go of them.

    `user_ids` are those whose words they were.
    """

    receipt: str
    user_ids: tuple[str, ...]


class ReminderDue(Value):
    """A reminder or timer has come: `text` is to be told to this person now.

    `session_id` is where it was asked for, if anywhere. A listener returns how it told them.
    """

    task_id: str
    user_id: str
    text: str
    at: dt.datetime
    session_id: str | None = None


class TaskFinished(Value):
    """Work that nobody attended has ended, or waits for a person's answer (`waiting`)."""

    task_id: str
    run_id: str
    user_id: str
    text: str
    status: str
    response: str
    error: str | None = None
    approval_id: str | None = None
    session_id: str | None = None


class ApprovalChanged(Value):
    """A question to a person was asked (`pending`), answered, used or is over.

    `by` is who answered, and `why` what they said or why it ended.
    """

    approval_id: str
    state: str
    tool: str
    preview: str
    risk_tier: int
    expires_at: dt.datetime
    needs_code: bool
    session_id: str | None = None
    by: str | None = None
    why: str | None = None


E = TypeVar("E", bound=Value)
Listener = Callable[[Any], Awaitable[Any]]
Undo = Callable[[], None]


class Bus:
    """Who wants to know what."""

    def __init__(self) -> None:
        self._listeners: dict[type[Value], list[Listener]] = defaultdict(list)

    def subscribe(self, kind: type[E], listener: Callable[[E], Awaitable[Any]]) -> Undo:
        """Have `listener` told of every `kind`; call the result to stop."""
        self._listeners[kind].append(listener)
        return lambda: self._listeners[kind].remove(listener)

    async def publish(self, event: Value) -> list[Any]:
        """Tell every listener at once and return their answers, without those that failed."""
        listeners = self._listeners[type(event)]
        answers = await asyncio.gather(*(tell(event) for tell in listeners), return_exceptions=True)
        kept = []
        for answer in answers:
            if isinstance(answer, Exception):
                get_logger("sonia").error(
                    "listener failed", fact=type(event).__name__, exc_info=answer
                )
            elif isinstance(answer, BaseException):
                raise answer
            else:
                kept.append(answer)
        return kept
