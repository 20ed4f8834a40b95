"""An answer while it arrives: text to hand on, calls to put together, counts to tell at its end."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from sonia.errors import InvalidRequest
from sonia.router.backends.base import fits
from sonia.router.backends.facts import Price
from sonia.router.backends.refusals import Refusals
from sonia.router.interface import ChatEvent, ChatRequest, Finished, FinishReason, ToolCallProposed
from sonia.types import ToolCall, ToolSpec, Usage, new_id

LONGEST_NAME_CHARS = 64
_FOREIGN = re.compile(r"[^A-Za-z0-9_-]")


def wire_name(name: str) -> str:
    """A tool's name as providers take it: `file.read` → `file_read`."""
    return _FOREIGN.sub("_", name)[:LONGEST_NAME_CHARS]


def offered(tools: Sequence[ToolSpec]) -> dict[str, ToolSpec]:
    """By their names on the wire. Raises `InvalidRequest` when two names are one there."""
    named = {wire_name(tool.name): tool for tool in tools}
    if len(named) < len(tools):
        raise InvalidRequest("Two tools have names that differ only in their punctuation.")
    return named


class _Parts(msgspec.Struct):
    """One tool call while its pieces arrive."""

    id: str = ""
    name: str = ""
    arguments: list[str] = []


class Answer:
    """What one call of a provider has said so far. `price` None is not known."""

    def __init__(
        self, request: ChatRequest, refusals: Refusals, *, model: str, price: Price | None
    ) -> None:
        self.request = request
        self.refusals = refusals
        self.reason: FinishReason | None = None
        self.usage = Usage()
        self.cost_usd: float | None = None  # as the provider says it
        self.stop_sequence: str | None = None  # likewise
        self._model = model
        self._price = price
        self._started_s = time.perf_counter()
        self._first_token_ms: float | None = None
        self._calls: dict[object, _Parts] = {}

    @property
    def begun(self) -> bool:
        """Whether anything of the answer has arrived."""
        return self._first_token_ms is not None

    def begin(self) -> None:
        """Note when the first of it came."""
        if self._first_token_ms is None:
            self._first_token_ms = (time.perf_counter() - self._started_s) * 1000

    def call(self, key: object, *, id: str = "", name: str = "", arguments: str = "") -> None:
        """Take a piece of the call that `key` stands for."""
        self.begin()
        parts = self._calls.setdefault(key, _Parts())
        parts.id = parts.id or id
        parts.name = parts.name or name
        if arguments:
            parts.arguments.append(arguments)

    def last_call(self) -> object:
        """The key of the call begun last; None before any."""
        return next(reversed(self._calls), None)

    def finish(self) -> list[ChatEvent]:
        """The calls and `Finished`.

        Raises `AnswerCut` without a reason, or for a call that is not what was offered.
        """
        if self.reason is None:
            raise self.refusals.cut("it ended without saying why")
        if self.reason == "length" and self._calls:
            self._calls.clear()  # cut short: nothing of it may run
        calls: list[ChatEvent] = [
            ToolCallProposed(call=self._whole(parts)) for parts in self._calls.values()
        ]
        self.begin()
        cost_usd = self.cost_usd
        if cost_usd is None and self._price is not None:
            cost_usd = self._price.cost_usd(self.usage)
        end = Finished(
            model=self._model,
            provider=self.refusals.provider,
            reason="tool_calls" if calls else self.reason,
            usage=self.usage,
            first_token_ms=round(self._first_token_ms or 0.0, 2),
            cost_usd=cost_usd,
            stop_sequence=self.stop_sequence,
        )
        return [*calls, end]

    def _whole(self, parts: _Parts) -> ToolCall:
        tool = offered(self.request.tools).get(parts.name)
        if tool is None:
            raise self.refusals.cut("it called a tool that was not offered")
        try:
            arguments: Any = msgspec.json.decode("".join(parts.arguments) or "{}")
        except (msgspec.DecodeError, RecursionError):
            raise self.refusals.cut(f"the arguments for {tool.name} are not JSON") from None
        if not fits(arguments, tool):
            raise self.refusals.cut(f"the arguments for {tool.name} do not fit its schema")
        return ToolCall(id=parts.id or new_id("call"), name=tool.name, arguments=arguments)
