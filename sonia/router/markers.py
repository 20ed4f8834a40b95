"""Forged role markers made harmless.

A chat template joins turns with markers such as `<|im_start|>`. Text from a person, a file or
a web page that holds one could end its own turn and speak as somebody else, so the first
character of every known marker is replaced by one that looks alike and means nothing.
Families: ChatML, Llama, Gemma, Mistral, Phi, DeepSeek, and the XML-like ones of agents.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from sonia.types import Message, ToolSpec

_ANGLE = re.compile(
    r"<(?=[|\uff5c]"
    r"|/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|system|user|assistant|human|tool"
    r"|tools|tool_call|tool_calls|tool_response|tool_result|function_calls|think)\s*>"
    r"|</?SYS>>)",
    re.IGNORECASE,
)
_SQUARE = re.compile(
    r"\[(?=/?(?:INST|SYSTEM_PROMPT|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS)\])", re.IGNORECASE
)


def harmless(text: str) -> str:
    """The text, with every marker's first bracket replaced (`\u2039`, `\uff3b`)."""
    return _SQUARE.sub("\uff3b", _ANGLE.sub("\u2039", text))


def harmless_message(message: Message) -> Message:
    """The message, its arguments of tool calls included."""
    content = message.content
    if not message.tool_calls and "<" not in content and "[" not in content:
        return message
    calls = tuple(
        msgspec.structs.replace(call, arguments=_everywhere(call.arguments))
        for call in message.tool_calls
    )
    return msgspec.structs.replace(message, content=harmless(message.content), tool_calls=calls)


def harmless_tool(tool: ToolSpec) -> ToolSpec:
    """The tool: its words may come from a server that is not ours."""
    return msgspec.structs.replace(
        tool, description=harmless(tool.description), parameters=_everywhere(tool.parameters)
    )


def _everywhere(value: Any) -> Any:
    match value:
        case str():
            return harmless(value)
        case dict():
            return {harmless(str(key)): _everywhere(item) for key, item in value.items()}
        case list() | tuple():
            return [_everywhere(item) for item in value]
        case _:
            return value
