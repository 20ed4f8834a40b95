"""Going on with an answer that broke, on another model, without saying anything twice."""

from __future__ import annotations

import msgspec

from sonia.router.interface import AnswerCut, ChatRequest
from sonia.types import Message

LEAST_OVERLAP_CHARS = 8
_GO_ON = (
    "Your last message was cut off. Continue it from exactly the character where it stops. "
    "Do not repeat any of it and do not comment on this."
)


def continued(request: ChatRequest, said: str, *, prefills: bool) -> ChatRequest:
    """The request that asks for the rest of an answer that began with `said`.

    A constrained answer can't be entered half-way: it is made again, and must begin the same.
    """
    if is_document(request):
        return request
    begun = (Message(role="assistant", content=said),)
    asks = () if prefills else (Message(role="user", content=_GO_ON),)
    return msgspec.structs.replace(request, messages=(*request.messages, *begun, *asks))


def is_document(request: ChatRequest) -> bool:
    """Whether the answer is one JSON document."""
    return request.json_schema is not None or request.json_object


class Joint:
    """Between what was `said` and what comes next.

    Holds back what might be a repetition until it is one or can't be. `again`: everything said
    is expected again.
    """

    def __init__(self, said: str, *, again: bool = False) -> None:
        self._said = said
        self._again = again
        self._held: str | None = ""

    def take(self, text: str) -> str:
        """What of this is new. Raises `AnswerCut` when the model began anew, differently."""
        if self._held is None:
            return text
        self._held += text
        if self._open():
            return ""
        return self._let_go()

    def end(self) -> str:
        """What was still held back and is new."""
        return "" if self._held is None else self._let_go()

    def _open(self) -> bool:
        held = self._held or ""
        if self._again:
            return self._said.startswith(held) and len(held) < len(self._said)
        return held in self._said

    def _let_go(self) -> str:
        held, self._held = self._held or "", None
        if held.startswith(self._said):
            return held[len(self._said) :]
        begins = _common(held, self._said)
        if self._again or begins >= 2 * LEAST_OVERLAP_CHARS:
            raise AnswerCut("The answer broke, and the next model gave another one.")
        longest = min(len(held), len(self._said))
        for length in range(longest, LEAST_OVERLAP_CHARS - 1, -1):
            if self._said.endswith(held[:length]):
                return held[length:]
        return held


def _common(one: str, other: str) -> int:
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))
