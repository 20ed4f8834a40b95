"""Choosing a tool: what the model is shown, and what of its answer counts."""

from __future__ import annotations

import pytest

from sonia.errors import InvalidRequest
from sonia.router.backends.base import fits
from sonia.router.backends.toolpick import (
    RECENT_MESSAGES,
    picked,
    picking_grammar,
    picking_prompt,
    speaking_prompt,
)
from sonia.types import Message, ToolCall, ToolSpec

READ = ToolSpec(
    name="file.read",
    description="Read a file.",
    parameters={
        "type": "object",
        "properties": {"path": {"type": "string", "minLength": 1}},
        "required": ["path"],
        "additionalProperties": False,
    },
)
OTHER = ToolSpec(name="weather", description="The weather.", parameters={"type": "object"})


def test_a_whole_and_valid_call_is_picked() -> None:
    call = picked('file.read {"path":"a.txt"}', (READ, OTHER))

    assert call is not None
    assert (call.name, call.arguments) == ("file.read", {"path": "a.txt"})
    assert call.id.startswith("call_")


@pytest.mark.parametrize(
    "answer",
    [
        "say",
        "",
        'file.read {"path":"a.t',
        'file.read {"path":""}',
        'file.read {"file":"a.txt"}',
        "file.read []",
        "file.read",
        'file.delete {"path":"a.txt"}',
    ],
)
def test_an_answer_that_is_no_valid_call_is_answered_in_words(answer: str) -> None:
    assert picked(answer, (READ,)) is None


def test_only_offered_tools_are_in_the_prompt_and_the_grammar() -> None:
    shown = str(picking_prompt((Message(role="user", content="hi"),), (OTHER,)))

    assert "weather" in shown
    assert "file.read" not in shown
    assert "file.read" not in picking_grammar((OTHER,))


def test_the_beginning_of_the_picking_prompt_does_not_change_with_the_question() -> None:
    first = picking_prompt((Message(role="user", content="one"),), (READ, OTHER))
    second = picking_prompt((Message(role="user", content="two"),), (READ, OTHER))

    assert first[:-1] == second[:-1]


def test_the_picking_prompt_is_bounded_however_long_the_conversation() -> None:
    talk = tuple(
        Message(role="user" if index % 2 == 0 else "assistant", content="word " * 5000)
        for index in range(101)
    )

    turns = picking_prompt(talk, (READ,))

    assert sum(len(turn["content"]) for turn in turns) < 2000 + RECENT_MESSAGES * 1300


def test_words_that_were_said_are_shown_to_the_picker_as_say() -> None:
    talk = (
        Message(role="user", content="hi"),
        Message(role="assistant", content="Hello!"),
        Message(role="user", content="read it"),
    )

    turns = picking_prompt(talk, (READ,))

    assert [turn["content"] for turn in turns[-3:]] == ["hi", "say", "read it"]


def test_the_messages_before_the_question_seldom_change_their_beginning() -> None:
    talk = [Message(role="user", content=f"{number}") for number in range(40)]
    notes = Message(role="system", content="Known about the user")

    fixed = len(picking_prompt(talk[:1], (READ,))) - 1

    shown = [picking_prompt((*talk[:n], notes, talk[n]), (READ,))[fixed:] for n in range(24, 32)]

    assert len({turns[0]["content"] for turns in shown}) <= 3
    assert [turns[-1]["content"] for turns in shown] == [f"{n}" for n in range(24, 32)]


def test_a_tools_result_is_spoken_about_by_the_question() -> None:
    call = ToolCall(id="c1", name="file.read", arguments={"path": "a.txt"})
    talk = (
        Message(role="user", content="What does a.txt say?"),
        Message(role="assistant", content="", tool_calls=(call,)),
        Message(role="tool", content="call Anna", tool_call_id="c1"),
    )

    turns = speaking_prompt(talk)

    assert [turn["role"] for turn in turns] == ["user", "user"]
    assert 'file.read {"path":"a.txt"}' in turns[1]["content"]
    assert "call Anna" in turns[1]["content"]
    assert turns[1]["content"].endswith("What does a.txt say?")


def test_a_tool_whose_schema_is_none_is_refused_by_name() -> None:
    broken = ToolSpec(name="broken", description="", parameters={"type": "nonsense"})

    with pytest.raises(InvalidRequest, match="broken"):
        fits({}, broken)
