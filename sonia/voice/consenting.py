"""Spoken answers to what has to be approved: a no to anything, a yes to small things.

A loudspeaker can say "yes" too, be it hers, so a yes is a number that she has read out for this one
question, said while she was silent, by the owner, and for tier 1 at most (`Control.settle`).
"""

from __future__ import annotations

import re
from typing import Literal, Protocol

from sonia.errors import SoniaError
from sonia.turn import ApprovalNeeded
from sonia.types import DEFAULT_USER, ApprovalId
from sonia.voice.echo import BACK_CHANNELS, words

VOICE = "voice"
SPOKEN_TIER = 1
LONGEST_NO_WORDS = 6  # a longer one is a new thing said, which ends the question as well
LONGEST_PREVIEW_CHARS = 160
FEWEST_DIGITS = 4  # with fewer it is no try at the number
ASKING = "I need your permission for that. Say no, or answer on the screen."
ASKING_SMALL = (
    "I need your permission: {preview}. If you agree, say this number: {digits}. Or say no."
)
ON_SCREEN = "I can't take a yes to that by voice. Say no, or answer on the screen."
THE_NUMBER = "If you agree, say the number that I gave you, when I am silent. Or say no."
_NO = "no nope stop deny denied don't dont cancel never refuse forbid nein nicht stopp"
_YES = """
approve approved allow allowed agree agreed confirm confirmed please go ahead do it i we that accept
permit granted
"""
NO = frozenset(_NO.split())
YES = BACK_CHANNELS | frozenset(_YES.split())
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_DIGIT = re.compile(rf"\d|\b(?:{'|'.join(_DIGITS)})\b", re.IGNORECASE)


class Settles(Protocol):
    """Answers for the person: control's side of this."""

    async def settle(
        self,
        approval_id: ApprovalId,
        *,
        approve: bool,
        by: str,
        reason: str = "",
        code: str | None = None,
    ) -> object:
        """Raises `SoniaError` when it doesn't count."""
        ...

    async def code(self, approval_id: ApprovalId) -> str:
        """The number that a yes takes."""
        ...


class Consent:
    """What one session is asked, and what its answers mean."""

    def __init__(self, settles: Settles, user_id: str) -> None:
        self._settles = settles
        self._owner = user_id == DEFAULT_USER
        self._asked: ApprovalNeeded | None = None

    @property
    def open(self) -> bool:
        """Whether something waits for an answer."""
        return self._asked is not None

    async def question(self, asked: ApprovalNeeded) -> str:
        """What to say, so that the person knows what is asked."""
        self._asked = asked
        if not self._by_voice(asked):
            return ASKING
        try:
            code = await self._settles.code(ApprovalId(asked.approval_id))
        except SoniaError:
            return ASKING
        preview = " ".join(asked.preview.split())[:LONGEST_PREVIEW_CHARS].rstrip(".")
        digits = ", ".join(_DIGITS[int(digit)] for digit in code)
        return ASKING_SMALL.format(preview=preview, digits=digits)

    def over(self) -> None:
        """It was answered, or nobody waits any more."""
        self._asked = None

    async def answer(self, text: str, *, sure: bool) -> str | None:
        """Act on what was said; what to say to that, if anything. None: it was no answer.

        `sure` is whether a person certainly said it, clearly and not over her voice.
        """
        asked, kind = self._asked, understood(text)
        if asked is None or kind is None:
            return None
        if kind == "no":
            return await self._settle(asked, None)
        if not self._by_voice(asked):
            return ON_SCREEN
        return await self._settle(asked, text) if kind == "number" and sure else THE_NUMBER

    def _by_voice(self, asked: ApprovalNeeded) -> bool:
        return self._owner and asked.risk_tier <= SPOKEN_TIER

    async def _settle(self, asked: ApprovalNeeded, code: str | None) -> str:
        approval_id = ApprovalId(asked.approval_id)
        try:
            await self._settles.settle(
                approval_id, approve=code is not None, by=VOICE, reason="said aloud", code=code
            )
        except SoniaError as error:
            return error.message
        return ""


def understood(text: str) -> Literal["no", "number", "yes"] | None:
    """What `text` says to a question, if it is an answer. In doubt it is a no."""
    said = words(text)
    if not said:
        return None
    if len(said) <= LONGEST_NO_WORDS and not NO.isdisjoint(said):
        return "no"
    rest = words(_DIGIT.sub(" ", text.replace("-", " ")))
    if all(word in YES for word in rest):
        return "number" if len(_DIGIT.findall(text)) >= FEWEST_DIGITS else "yes"
    return None
