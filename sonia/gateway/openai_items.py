"""The items of `/v1/responses`: what goes in as messages, what comes out as items."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest
from sonia.gateway.bodies import called, convert
from sonia.gateway.openai_chat import picture
from sonia.types import Message, ToolCall, new_id

MOST_ITEMS = 2048
_PASSED_OVER = ("reasoning",)


class Part(msgspec.Struct):
    """A piece of a message."""

    type: str
    text: str = ""
    refusal: str = ""
    image_url: str | None = None


class MessageItem(msgspec.Struct):
    """Something said. `type` may be left out."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: Literal["message"] = "message"


class CallItem(msgspec.Struct):
    """A call that the model made."""

    call_id: Annotated[str, msgspec.Meta(min_length=1)]
    name: Annotated[str, msgspec.Meta(min_length=1)]
    arguments: str
    type: Literal["function_call"] = "function_call"


class OutputItem(msgspec.Struct):
    """What a call brought."""

    call_id: Annotated[str, msgspec.Meta(min_length=1)]
    output: str | list[Part]
    type: Literal["function_call_output"] = "function_call_output"


def messages_of(given: str | list[dict[str, Any]]) -> tuple[Message, ...]:
    """The input as messages; calls made together are one message. Raises `InvalidRequest`."""
    if isinstance(given, str):
        return (Message(role="user", content=given),)
    if len(given) > MOST_ITEMS:
        raise InvalidRequest(f"At most {MOST_ITEMS} items, not {len(given)}.", param="input")
    found: list[Message] = []
    for index, item in enumerate(given):
        said = _message(item, f"input[{index}]")
        if said is None:
            continue
        if said.tool_calls and found and found[-1].tool_calls and not found[-1].content:
            calls = (*found.pop().tool_calls, *said.tool_calls)
            said = msgspec.structs.replace(said, tool_calls=calls)
        found.append(said)
    return tuple(found)


def _message(item: dict[str, Any], where: str) -> Message | None:
    match kind := item.get("type", "message"):
        case "message":
            said = convert(item, MessageItem, where)
            role = "system" if said.role == "developer" else said.role
            text = _words(said.content, f"{where}.content")
            return Message(role=role, content=text, images=_images(said, f"{where}.content"))
        case "function_call":
            call = convert(item, CallItem, where)
            made = called(call.call_id, call.name, call.arguments, f"{where}.arguments")
            return Message(role="assistant", content="", tool_calls=(made,))
        case "function_call_output":
            brought = convert(item, OutputItem, where)
            text = _words(brought.output, f"{where}.output")
            return Message(role="tool", content=text, tool_call_id=brought.call_id)
        case _ if kind in _PASSED_OVER:
            return None
    raise InvalidRequest(
        f"Items of type {kind!r} can't be read here. Send messages, function_call and "
        "function_call_output.",
        param=f"{where}.type",
    )


def _images(said: MessageItem, where: str) -> tuple[str, ...]:
    parts = [] if isinstance(said.content, str) else said.content
    return tuple(
        picture(part.image_url, f"{where}[{index}].image_url")
        for index, part in enumerate(parts)
        if part.type == "input_image" and part.image_url
    )


def _words(content: str | list[Part], where: str) -> str:
    if isinstance(content, str):
        return content
    words: list[str] = []
    for index, part in enumerate(content):
        if part.type == "input_image" and part.image_url:
            continue
        if part.type not in ("input_text", "output_text", "text", "refusal"):
            raise InvalidRequest(
                f"Content of type {part.type!r} can't be read here. Send text.",
                param=f"{where}[{index}].type",
            )
        words.append(part.text or part.refusal)
    return "\n".join(words)


def kept_items(given: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The input as it can be listed later: every item with an id and a type."""
    if isinstance(given, str):
        given = [{"role": "user", "content": [{"type": "input_text", "text": given}]}]
    return [{"id": new_id("item"), "type": "message", **item} for item in given]


def text_item(item_id: str, text: str, status: str) -> dict[str, Any]:
    """An answer in words."""
    return {
        "id": item_id,
        "type": "message",
        "status": status,
        "role": "assistant",
        "content": [text_part(text)] if status != "in_progress" else [],
    }


def text_part(text: str) -> dict[str, Any]:
    """The only piece of such an answer."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(item_id: str, call: ToolCall, *, begun: bool = False) -> dict[str, Any]:
    """A call; while `begun`, its arguments are still to come."""
    return {
        "id": item_id,
        "type": "function_call",
        "status": "in_progress" if begun else "completed",
        "call_id": call.id,
        "name": call.name,
        "arguments": "" if begun else msgspec.json.encode(call.arguments).decode(),
    }
