"""One JSON document from a model, for parts that want an answer and no conversation."""

from __future__ import annotations

from typing import Any

from sonia.errors import UpstreamError
from sonia.router.interface import ChatRequest, Finished, Router, TextDelta
from sonia.types import Message

MAX_TOKENS = 1_024


class JsonAnswers:
    """Asks the models of one profile, in order, as `Router.chat` does."""

    def __init__(self, router: Router, profile: str) -> None:
        self._router = router
        self._profile = profile

    async def answer(self, instructions: str, text: str, schema: dict[str, Any]) -> str:
        """A JSON document that fits `schema`. Raises `SoniaError`."""
        request = ChatRequest(
            messages=(
                Message(role="system", content=instructions),
                Message(role="user", content=text),
            ),
            profile=self._profile,
            json_schema=schema,
            max_tokens=MAX_TOKENS,
            whole=True,
        )
        pieces: list[str] = []
        async with self._router.chat(request) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    pieces.append(event.text)
                elif isinstance(event, Finished) and event.reason != "stop":
                    raise UpstreamError("The model's answer was cut off.", reason=event.reason)
        return "".join(pieces)
