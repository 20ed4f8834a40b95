"""Dead letters: effects that failed, kept until a person has each tried again or dismissed.

Control declares what they are, tools keep them; `app.py` joins the two.
"""

from __future__ import annotations

import datetime as dt
from typing import Any, Literal, Protocol, runtime_checkable

from sonia.errors import Conflict, NotFound
from sonia.types import ApprovalId, Value

LetterState = Literal["open", "replayed", "dismissed"]


class LetterNotFound(NotFound):
    """No dead letter has this id."""


class LetterSettled(Conflict):
    """It was tried again or dismissed already, or can't be tried again as it was."""


class DeadLetter(Value):
    """An action that failed, timed out, or was being done when Sonia stopped.

    It may be half done: `error` says what is known. `replayed_as` is the action that tried again.
    """

    id: str
    action_id: str
    tool: str
    arguments: dict[str, Any]
    at: dt.datetime
    state: LetterState
    error: str
    session_id: str | None = None
    replayed_as: str | None = None


class Replayed(Value):
    """What became of trying again: a new action under a new decision."""

    letter: DeadLetter
    action_id: str
    status: str
    message: str | None = None
    approval_id: ApprovalId | None = None


@runtime_checkable
class DeadLetters(Protocol):
    """Keeps them."""

    async def letters(
        self, state: LetterState | None = "open", limit: int = 100
    ) -> tuple[DeadLetter, ...]:
        """Newest first."""
        ...

    async def replay(self, letter_id: str) -> Replayed:
        """Have the same call decided anew and done; once, whoever asks how often.

        What fails again is a new letter. Raises `LetterNotFound`, `LetterSettled`, and what a
        call raises, which leaves the letter open.
        """
        ...

    async def dismiss(self, letter_id: str) -> DeadLetter:
        """Leave it at that. Raises `LetterNotFound`, `LetterSettled`."""
        ...
