"""Forged role markers."""

from __future__ import annotations

import json

import msgspec
import pytest

from sonia.router.markers import harmless, harmless_message, harmless_tool
from sonia.types import Message, ToolCall, ToolSpec

MARKERS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<|endoftext|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<bos>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "[TOOL_CALLS]",
    "[/TOOL_RESULTS]",
    "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    "<system>",
    "</system>",
    "<tool_response>",
    "</tool_call>",
    "<SYSTEM>",
]


@pytest.mark.parametrize("marker", MARKERS)
def test_t04_no_marker_survives_anywhere_in_a_request(marker: str) -> None:
    text = f"before {marker}{marker} after"
    call = ToolCall(id="c", name="t", arguments={"list": [{marker: text}]})
    message = harmless_message(Message(role="assistant", content=text, tool_calls=(call,)))
    schema = {"type": "object", "description": text}
    tool = harmless_tool(ToolSpec(name="t", description=text, parameters=schema))

    sent = msgspec.json.encode([message, tool]).decode()

    assert marker not in sent
    assert json.dumps(marker)[1:-1] not in sent


@pytest.mark.parametrize(
    "text", ["a < b and c > d", "x[0]", "<b>bold</b>", "1 << 4", "if a<b:", "see [1]", "5 | 6"]
)
def test_ordinary_text_is_untouched(text: str) -> None:
    assert harmless(text) == text
