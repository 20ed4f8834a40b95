"""How a provider is spoken to: bytes out, events in. Nothing here touches a network."""

from __future__ import annotations

from typing import Protocol

from sonia.router.backends.answers import Answer
from sonia.router.interface import ChatEvent, ChatRequest


class Reader(Protocol):
    """One answer's bytes as events. Raises our errors; `AnswerCut` once the answer began."""

    def feed(self, data: bytes) -> list[ChatEvent]:
        """What these further bytes say. An empty `TextDelta` only says that it is alive."""
        ...

    def end(self) -> list[ChatEvent]:
        """What the end of the bytes says."""
        ...


class Dialect(Protocol):
    """One wire format."""

    prefills: bool
    """Whether an answer goes on from an assistant's message at the end of the prompt."""

    def path(self, base_url: str) -> str:
        """The address to post to."""
        ...

    def headers(self, api_key: str) -> dict[str, str]:
        """What names us and the format."""
        ...

    def body(self, model: str, request: ChatRequest) -> bytes:
        """The request. Raises `InvalidRequest` for what this format can't say."""
        ...

    def reader(self, answer: Answer) -> Reader:
        """For the answer; `answer.request.whole` says that it comes in one piece."""
        ...
