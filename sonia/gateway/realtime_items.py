"""A realtime conversation: its items in order, and the same as messages for a model."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest, NotFound
from sonia.gateway.bodies import called, convert
from sonia.types import Message, new_id

MOST_ITEMS = 2048
Identifier = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]


class Part(msgspec.Struct):
    """A piece of a message. Sound given here is heard when it is added."""

    type: str
    text: str | None = None
    transcript: str | None = None
    audio: str | None = None


class MessageItem(msgspec.Struct):
    """Something said."""

    role: Literal["user", "assistant", "system"]
    content: list[Part]
    type: Literal["message"]
    id: Identifier | None = None


class CallItem(msgspec.Struct):
    """A call of a function of the client's."""

    name: str
    arguments: str
    type: Literal["function_call"]
    call_id: str | None = None
    id: Identifier | None = None


class OutputItem(msgspec.Struct):
    """What a call brought."""

    call_id: str
    output: str
    type: Literal["function_call_output"]
    id: Identifier | None = None


class ApprovalItem(msgspec.Struct):
    """A person's answer to an `mcp_approval_request`. The code is Sonia's own, for tier 3."""

    approval_request_id: str
    approve: bool
    type: Literal["mcp_approval_response"]
    reason: str | None = None
    confirmation_code: str | None = None
    id: Identifier | None = None


KINDS: dict[str, type[Any]] = {
    "message": MessageItem,
    "function_call": CallItem,
    "function_call_output": OutputItem,
    "mcp_approval_response": ApprovalItem,
}
TEXT_PARTS = ("input_text", "output_text", "text")


class Heard(msgspec.Struct, frozen=True):
    """So much of an answer was made into `ms` of sound."""

    text: str
    ms: float


class Items:
    """One conversation. Items are what the protocol shows, with an id and a status."""

    def __init__(self) -> None:
        self._items: list[dict[str, Any]] = []
        self.spoken: dict[str, list[Heard]] = {}  # by item, in order

    @property
    def last_id(self) -> str | None:
        """The newest item's."""
        return self._items[-1]["id"] if self._items else None

    def read(self, given: Any) -> dict[str, Any]:
        """An item as a client sends it, checked. Raises `InvalidRequest`."""
        kind = given.get("type") if isinstance(given, dict) else None
        if kind not in KINDS:
            raise InvalidRequest(
                f"Items of type {kind!r} can't be added. Add {', '.join(KINDS)}.",
                param="item.type",
            )
        item = convert(given, KINDS[kind], "item")
        if isinstance(item, MessageItem):
            for index, part in enumerate(item.content):
                if part.type not in (*TEXT_PARTS, "input_audio", "output_audio"):
                    raise InvalidRequest(
                        f"Content of type {part.type!r} can't be read here.",
                        param=f"item.content[{index}].type",
                    )
        if isinstance(item, CallItem):
            called(item.call_id or "call", item.name, item.arguments, "item.arguments")
        told: dict[str, Any] = msgspec.to_builtins(item)
        told |= {"id": item.id or new_id("item"), "object": "realtime.item", "status": "completed"}
        if isinstance(item, MessageItem):
            told["content"] = [
                {name: value for name, value in part.items() if value is not None}
                for part in told["content"]
            ]
        return told

    def add(self, item: dict[str, Any], after: str | None = None) -> str | None:
        """Put `item` after another (`root`: first; None: last); the id that it now follows.

        Raises `InvalidRequest` for an id that is taken or unknown, or when there are too many.
        """
        if len(self._items) >= MOST_ITEMS:
            raise InvalidRequest(f"A conversation has at most {MOST_ITEMS} items. Delete some.")
        if any(known["id"] == item["id"] for known in self._items):
            raise InvalidRequest(f"There is an item {item['id']!r} already.", param="item.id")
        at = len(self._items)
        if after == "root":
            at = 0
        elif after is not None:
            at = self._items.index(self.find(after)) + 1
        self._items.insert(at, item)
        return self._items[at - 1]["id"] if at else None

    def find(self, item_id: Any) -> dict[str, Any]:
        """Raises `NotFound`."""
        for item in self._items:
            if item["id"] == item_id:
                return item
        raise NotFound(f"There is no item {item_id!r}.", param="item_id")

    def delete(self, item_id: Any) -> None:
        """Raises `NotFound`."""
        self._items.remove(self.find(item_id))
        self.spoken.pop(str(item_id), None)

    def truncate(self, item_id: Any, ms: float) -> None:
        """Keep of a spoken answer what was heard in `ms`. Raises `NotFound`, `InvalidRequest`."""
        item = self.find(item_id)
        if item.get("role") != "assistant" or str(item_id) not in self.spoken:
            raise InvalidRequest("Only her own spoken words can be cut.", param="item_id")
        parts = self.spoken[str(item_id)]
        if ms < 0 or ms > sum(part.ms for part in parts) + 1000:
            raise InvalidRequest("That is longer than the sound is.", param="audio_end_ms")
        kept, left = [], ms
        for part in parts:
            if left < part.ms:
                words = part.text.split(" ")
                kept.append(" ".join(words[: int(len(words) * left / part.ms)]))
                break
            kept.append(part.text)
            left -= part.ms
        item["content"] = [{"type": "output_audio", "transcript": "".join(kept).rstrip()}]

    def messages(self) -> tuple[Message, ...]:
        """What a model is told of it."""
        return tuple(said for item in self._items if (said := message_of(item)))


def message_of(item: dict[str, Any]) -> Message | None:
    """One item as a model reads it; None for what only people read, or is empty."""
    match item["type"]:
        case "message":
            text = "\n".join(
                part.get("text") or part.get("transcript") or "" for part in item["content"]
            )
            return Message(role=item["role"], content=text) if text.strip() else None
        case "function_call":
            made = called(item["call_id"] or item["id"], item["name"], item["arguments"], "item")
            return Message(role="assistant", content="", tool_calls=(made,))
        case "function_call_output":
            return Message(role="tool", content=item["output"], tool_call_id=item["call_id"])
    return None
