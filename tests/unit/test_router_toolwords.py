"""Which words are surely no request for a tool."""

from __future__ import annotations

import pytest

from sonia.router.backends.toolwords import may_want
from sonia.types import Message, ToolSpec


def tools(*names: str) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(name=name, description="", parameters={}) for name in names)


STANDARD = tools("file.read", "file.delete", "web.search", "system.info", "math.evaluate")


def said(*texts: str) -> tuple[Message, ...]:
    """The person and Sonia in turn; the person last."""
    roles = ("user", "assistant") if len(texts) % 2 else ("assistant", "user")
    return tuple(Message(role=roles[n % 2], content=text) for n, text in enumerate(texts))


@pytest.mark.parametrize(
    "text",
    [
        "How many legs does a spider have?",
        "What should I cook for dinner tonight?",
        "My sister is called Marta.",
        "Thank you, that was helpful",
    ],
)
def test_small_talk_wants_no_tool(text: str) -> None:
    assert not may_want(STANDARD, said(text))


@pytest.mark.parametrize(
    "text",
    [
        "What does todo.md say?",
        "Please get rid of what is in tmp/a",
        "Is the disk full?",
        "What is twelve times four?",
        "Do you know 12*37?",
        "Who won the match? Look it up online",
    ],
)
def test_what_names_something_that_a_tool_does_may_want_it(text: str) -> None:
    assert may_want(STANDARD, said(text))


def test_other_languages_are_left_to_the_model() -> None:
    assert may_want(STANDARD, said("Wie heißt die Hauptstadt von Frankreich?"))
    assert may_want(STANDARD, said("Wie geht es dir heute"))


def test_a_tool_whose_requests_are_unknown_is_left_to_the_model() -> None:
    assert may_want(tools("weather.now"), said("Will my washing get wet?"))


def test_a_short_answer_means_what_was_talked_about() -> None:
    assert may_want(STANDARD, said("Delete a file", "Which one?", "The second one please"))
    assert not may_want(STANDARD, said("Hello", "Hello!", "Tell me a joke"))
