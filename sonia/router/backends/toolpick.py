"""Small models and tools: first choose, then speak.

A model of half a billion parameters that sees tools and conversation in one prompt picks
wrongly and leaks the format into its speech. So the choice is a prompt of its own: the tools,
examples, the last few messages, and an answer that a grammar holds to one of

    say
    <tool> {"its": "arguments"}

`say` is one token; the conversation is then answered from a prompt without any tools, as
plain text that streams. Both prompts keep a fixed beginning, so the engine has it cached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from sonia.errors import InvalidRequest
from sonia.router.backends.base import fits
from sonia.router.backends.constraint import schema_rule, unenforceable
from sonia.router.interface import ChatRequest
from sonia.router.markers import harmless
from sonia.types import Message, ToolCall, ToolSpec, new_id

SAY = "say"
RECENT_MESSAGES, DROPPED_MESSAGES = 8, 4
LONGEST_CHARS = 1200
LONGEST_SCHEMA_CHARS = 4000

Turn = dict[str, str]

_ASK = (
    "Choose what to do with the user's message. Answer with one line: a tool's name and its "
    "arguments as JSON, or the word say.\nTools:\n- say: reply in words: conversation, "
    "questions, knowledge, opinions, facts about the user"
)

_SPOKEN = (
    "Who painted the Mona Lisa?",
    "My cat is called Tom.",
    "Tell me a story about a fox.",
    "What is my cat called?",
    "How does a car work?",
    "What should I wear today?",
    "Which number has my locker?",
    "Thank you",
    "I live in a small town.",
    "Why do cats purr?",
    "What is the capital of Peru?",
    "Good morning",
    "Explain gravity",
    "Which is healthier, rice or bread?",
)

# Requests for tools that are often there; they are shown only when the tool is offered.
_ASKED: dict[str, tuple[tuple[str, dict[str, Any]], ...]] = {
    "file.read": (
        ("Open plan.md", {"path": "plan.md"}),
        ("Have a look at data.csv", {"path": "data.csv"}),
    ),
    "file.list": (("Which folders are there?", {"path": "."}),),
    "file.write": (
        ("Put hello in a.txt", {"path": "a.txt", "content": "hello"}),
        ("Write 'pay rent' to b.md", {"path": "b.md", "content": "pay rent"}),
    ),
    "file.search": (
        ("Which of my notes mention the garage?", {"query": "garage"}),
        ("Find the word rent in my files", {"query": "rent"}),
    ),
    "file.delete": (("Delete b.txt", {"path": "b.txt"}),),
    "process.list": (
        ("What is running?", {}),
        ("Is Chrome running?", {}),
        ("Which program uses the most CPU?", {}),
    ),
    "web.fetch": (
        ("What is on https://a.example/b?", {"url": "https://a.example/b"}),
        ("Download http://c.example/d.txt", {"url": "http://c.example/d.txt"}),
    ),
    "web.search": (
        ("Search the web for cheap bicycles", {"query": "cheap bicycles"}),
        ("Look up online when the zoo opens", {"query": "zoo opening hours"}),
    ),
    "browser.open": (("Open https://d.example in the browser", {"url": "https://d.example"}),),
    "notification.send": (("Notify me: it rains", {"message": "it rains"}),),
    "shell.run": (("Run pwd", {"command": "pwd"}),),
    "system.info": (
        ("What is the date today?", {}),
        ("Which CPU is in this machine and how full is the disk?", {}),
        ("How many gigabytes of memory are there?", {}),
    ),
    "math.evaluate": (("What is 3 plus 4?", {"expression": "3+4"}),),
}


def picking_prompt(messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[Turn]:
    """The prompt that chooses; the last of `messages` is the user's."""
    listed = "".join(f"\n- {tool.name}({_names(tool)}): {tool.description}" for tool in tools)
    return [
        {"role": "system", "content": _ASK + listed},
        *_shots(tools),
        *(turn for message in _lately(messages) for turn in _recent(message)),
    ]


def allowed_tools(request: ChatRequest) -> tuple[ToolSpec, ...]:
    """Those that the answer may call, by the request's `tool_choice`.

    Nothing is called straight after a tool's result unless it has to be: a small model would
    call again what it has just been told.
    """
    match request.tool_choice:
        case "none":
            return ()
        case "auto":
            asked = bool(request.messages) and request.messages[-1].role == "user"
            return request.tools if asked else ()
        case "required":
            return request.tools
        case name:
            return tuple(tool for tool in request.tools if tool.name == name)


def picking_grammar(tools: Sequence[ToolSpec], *, may_speak: bool = True) -> str:
    """A Lark grammar for llguidance: `say`, or a tool's name and arguments of its schema.

    What of a tool's schema no grammar can hold is left to `picked`. Raises `InvalidRequest`
    for a schema that is none.
    """
    rules = [f"call{index}" for index, _ in enumerate(tools)]
    spoken = ['"say"'] if may_speak else []
    lines = ["%llguidance {}", "start: " + " | ".join([*spoken, *rules])]
    for rule, tool in zip(rules, tools, strict=True):
        name = msgspec.json.encode(tool.name + " ").decode()
        lines.append(f"{rule}: {name} {_arguments_rule(tool)}")
    return "\n".join(lines)


def _arguments_rule(tool: ToolSpec) -> str:
    lenient = unenforceable(tool.parameters) is not None
    if lenient and (refused := unenforceable(tool.parameters, lenient=True)):
        raise InvalidRequest(
            f"The parameters of tool {tool.name} are no JSON Schema: {refused}.", tool=tool.name
        )
    return schema_rule(tool.parameters, lenient=lenient)


def picked(answer: str, tools: Sequence[ToolSpec]) -> ToolCall | None:
    """The call that was chosen, whole and valid, or None to answer in words."""
    name, _, rest = answer.partition(" ")
    tool = next((tool for tool in tools if tool.name == name), None)
    if tool is None:
        return None
    try:
        arguments = msgspec.json.decode(rest)
    except msgspec.DecodeError:
        return None
    if not fits(arguments, tool):
        return None
    return ToolCall(id=new_id("call"), name=name, arguments=arguments)


def speaking_prompt(messages: Sequence[Message]) -> list[Turn]:
    """The conversation in the roles that every chat template knows.

    A tool's result becomes the user's: small models read it there, and repeat the format when
    they see calls in their own words.
    """
    calls = {call.id: call for message in messages for call in message.tool_calls}
    turns: list[Turn] = []
    question = ""
    for message in messages:
        if message.role == "user":
            question = message.content
        if message.role == "tool":
            call = calls.get(message.tool_call_id or "")
            turns.append({"role": "user", "content": _result(message.content, call, question)})
        elif message.content or not message.tool_calls:
            turns.append({"role": message.role, "content": message.content})
    return turns


def showing_schema(turns: list[Turn], schema: dict[str, Any]) -> list[Turn]:
    """The prompt with the schema under its last turn, when short enough to be read."""
    shown = harmless(msgspec.json.encode(schema).decode())
    if not turns or len(shown) > LONGEST_SCHEMA_CHARS:
        return turns
    *before, last = turns
    text = f"{last['content']}\n\nAnswer with one JSON document of this JSON Schema: {shown}"
    return [*before, {**last, "content": text}]


def _result(text: str, call: ToolCall | None, question: str) -> str:
    done = call_line(call.name, call.arguments) if call else "the tool"
    return (
        f"Result of {done}:\n{text}\n\n"
        f"Tell me in one sentence what this means for my question: {_short(question)}"
    )


def _names(tool: ToolSpec) -> str:
    return ", ".join(tool.parameters.get("properties", {}))


def _shots(tools: Sequence[ToolSpec]) -> Iterable[Turn]:
    """Calls and words in turn: a run of either makes the model expect it again."""
    spoken = iter(_SPOKEN)
    for tool in tools:
        for request, arguments in _ASKED.get(tool.name, ()):
            if fits(arguments, tool):
                yield from _shot(request, call_line(tool.name, arguments))
                yield from _shot(next(spoken, ""), SAY)
    for text in spoken:
        yield from _shot(text, SAY)


def _shot(request: str, line: str) -> Iterable[Turn]:
    if request:
        yield {"role": "user", "content": request}
        yield {"role": "assistant", "content": line}


def _lately(messages: Sequence[Message]) -> Sequence[Message]:
    """The last few messages; dropped some at a time, so that most stay in the engine's cache."""
    said = [message for message in messages if message.role != "system"]
    excess = max(0, len(said) - RECENT_MESSAGES)
    return said[-(-excess // DROPPED_MESSAGES) * DROPPED_MESSAGES :]


def _recent(message: Message) -> Iterable[Turn]:
    match message.role:
        case "user":
            yield {"role": "user", "content": _short(message.content)}
        case "assistant" if message.tool_calls:
            call = message.tool_calls[0]
            yield {"role": "assistant", "content": call_line(call.name, call.arguments)}
        case "assistant":
            yield {"role": "assistant", "content": SAY}


def call_line(name: str, arguments: dict[str, Any]) -> str:
    """`file.read {"path":"a.txt"}`"""
    return f"{name} {msgspec.json.encode(arguments).decode()}"


def _short(text: str) -> str:
    half = LONGEST_CHARS // 2
    return text if len(text) <= LONGEST_CHARS else f"{text[:half]} … {text[-half:]}"
