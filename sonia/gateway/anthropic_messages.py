"""`POST /v1/messages`: what its body means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest
from sonia.gateway.answering import Answers, Asked, session_of
from sonia.gateway.bodies import decode
from sonia.gateway.openai_chat import ANY_OBJECT, Name, picture, schema_format
from sonia.router import ChatRequest
from sonia.types import DEFAULT_USER, Message, ToolCall, ToolSpec


class TextBlock(msgspec.Struct, tag="text"):
    """Words."""

    text: str


class ImageSource(msgspec.Struct):
    """Where a picture is: its data in base64, or its address."""

    type: str
    media_type: str = ""
    data: str = ""
    url: str = ""


class ImageBlock(msgspec.Struct, tag="image"):
    """A picture."""

    source: ImageSource


class DocumentSource(msgspec.Struct):
    """Where the document is; only plain text can be read."""

    type: str
    data: str | None = None


class DocumentBlock(msgspec.Struct, tag="document"):
    """A document."""

    source: DocumentSource


class ThinkingBlock(msgspec.Struct, tag="thinking"):
    """What a model thought; not shown to another."""


class RedactedBlock(msgspec.Struct, tag="redacted_thinking"):
    """The same, unreadable."""


class ToolUseBlock(msgspec.Struct, tag="tool_use"):
    """A call that the model made."""

    id: str
    name: str
    input: dict[str, Any]


class ToolResultBlock(msgspec.Struct, tag="tool_result"):
    """What a call brought."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock | DocumentBlock] | None = None
    is_error: bool | None = None


Block = (
    TextBlock
    | ImageBlock
    | DocumentBlock
    | ThinkingBlock
    | RedactedBlock
    | ToolUseBlock
    | ToolResultBlock
)


class Said(msgspec.Struct):
    """A message."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class Tool(msgspec.Struct):
    """A tool of the client's. Those of Anthropic's own have another `type`."""

    name: Name
    input_schema: dict[str, Any] | None = None
    description: str | None = None
    type: str | None = None


class ToolChoice(msgspec.Struct):
    """Whether and which tool has to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class OutputFormat(msgspec.Struct):
    """JSON of a schema."""

    type: Literal["json_schema"]
    schema: dict[str, Any] | None = None


class OutputConfig(msgspec.Struct):
    """How the answer is to look."""

    format: OutputFormat | None = None


class Metadata(msgspec.Struct):
    """Whose request it is."""

    user_id: Name | None = None
    session_id: str | None = None


class CountBody(msgspec.Struct):
    """What counts of a request."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Said], msgspec.Meta(min_length=1, max_length=2048)]
    system: str | list[TextBlock] | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None


class Body(CountBody, kw_only=True):
    """The request. Fields that change nothing here are not listed."""

    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    stop_sequences: Annotated[list[str], msgspec.Meta(max_length=16)] | None = None
    stream: bool | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    metadata: Metadata | None = None
    output_config: OutputConfig | None = None


class WantedMessage(msgspec.Struct):
    """What to ask, and how the answer is wanted."""

    asked: Asked
    stream: bool
    one_call: bool


_decoder = msgspec.json.Decoder(Body)
_count_decoder = msgspec.json.Decoder(CountBody)


def wanted_message(
    data: bytes, answers: Answers, user_id: str | None, wishes: dict[str, bool]
) -> WantedMessage:
    """Read a body. Raises `InvalidRequest` that names the parameter, and `ModelNotFound`."""
    body = decode(_decoder, data)
    target = answers.resolve(body.model)
    tools, choice = _tools(body)
    request = ChatRequest(
        messages=tuple(_messages(body)),
        model=target.model,
        profile=target.profile,
        tools=tools,
        tool_choice=choice,
        **_wanted_format(body.output_config),
        parallel_tool_calls=not _one_call(body.tool_choice),
        max_tokens=body.max_tokens,
        temperature=answers.temperature(target, body.temperature),
        top_p=body.top_p or 1.0,
        stop=tuple(stop for stop in body.stop_sequences or () if stop),
    )
    named = body.metadata or Metadata()
    asked = Asked(
        target=target,
        request=request,
        user_id=user_id or named.user_id or DEFAULT_USER,
        session_id=session_of({"session_id": named.session_id}),
        **wishes,
    )
    return WantedMessage(
        asked=asked, stream=bool(body.stream), one_call=_one_call(body.tool_choice)
    )


def _one_call(choice: ToolChoice | None) -> bool:
    return bool(choice and choice.disable_parallel_tool_use)


async def counted(data: bytes, answers: Answers) -> int:
    """Tokens of a prompt: exact for local models' messages, an estimate for the rest."""
    body = decode(_count_decoder, data)
    target = answers.resolve(body.model)
    messages = list(_messages(body))
    if body.tools:
        shown = msgspec.json.encode(body.tools).decode()
        messages.insert(0, Message(role="system", content=shown))
    return await answers.router.count_tokens(messages, target.model)


def _messages(body: CountBody) -> Iterable[Message]:
    if body.system:
        system = body.system
        text = system if isinstance(system, str) else "\n".join(block.text for block in system)
        yield Message(role="system", content=text)
    for index, said in enumerate(body.messages):
        where = f"messages[{index}].content"
        if isinstance(said.content, str):
            yield Message(role=said.role, content=said.content)
        elif said.role == "assistant":
            yield _assistant(said.content, where)
        else:
            yield from _user(said.role, said.content, where)


def _assistant(blocks: list[Block], where: str) -> Message:
    calls = tuple(
        ToolCall(id=block.id, name=block.name, arguments=block.input)
        for block in blocks
        if isinstance(block, ToolUseBlock)
    )
    said = [block for block in blocks if not isinstance(block, ToolUseBlock)]
    return Message(role="assistant", content=_words(said, where), tool_calls=calls)


def _user(role: Literal["user", "system"], blocks: list[Block], where: str) -> Iterable[Message]:
    """What tools brought comes first, as the protocol has it; then the words."""
    for index, block in enumerate(blocks):
        if not isinstance(block, ToolResultBlock):
            continue
        content = block.content or ""
        inner = f"{where}[{index}].content"
        if not isinstance(content, str) and _images(content, inner):
            raise InvalidRequest("A tool's result is text here.", param=inner)
        text = content if isinstance(content, str) else _words(content, inner)
        if block.is_error:
            text = f"The tool failed: {text}"
        yield Message(role="tool", content=text, tool_call_id=block.tool_use_id)
    said = [block for block in blocks if not isinstance(block, ToolResultBlock)]
    if said:
        yield Message(role=role, content=_words(said, where), images=_images(said, where))


def _images(blocks: Iterable[Any], where: str) -> tuple[str, ...]:
    found: list[str] = []
    for index, block in enumerate(blocks):
        if isinstance(block, ImageBlock):
            source = block.source
            url = f"data:{source.media_type};base64,{source.data}" if source.data else source.url
            found.append(picture(url, f"{where}[{index}].source"))
    return tuple(found)


def _words(blocks: Iterable[Any], where: str) -> str:
    words: list[str] = []
    for index, block in enumerate(blocks):
        if isinstance(block, TextBlock):
            words.append(block.text)
        elif isinstance(block, DocumentBlock) and block.source.type == "text":
            words.append(block.source.data or "")
        elif not isinstance(block, ThinkingBlock | RedactedBlock | ImageBlock):
            kind = type(block).__struct_config__.tag
            raise InvalidRequest(
                f"Content of type '{kind}' can't be read here. Send text.",
                param=f"{where}[{index}]",
            )
    return "\n".join(words)


def _tools(body: Body) -> tuple[tuple[ToolSpec, ...], str]:
    for index, tool in enumerate(body.tools or ()):
        if tool.type not in (None, "custom") or tool.input_schema is None:
            raise InvalidRequest(
                f"The tool {tool.name!r} is not one of yours with an input_schema, and tools of "
                "Anthropic's own are not run here.",
                param=f"tools[{index}]",
            )
    offered = tuple(
        ToolSpec(
            name=tool.name,
            description=tool.description or "",
            parameters=tool.input_schema or ANY_OBJECT,
        )
        for tool in body.tools or ()
    )
    choice = body.tool_choice or ToolChoice(type="auto")
    if choice.type == "tool":
        if choice.name not in {tool.name for tool in offered}:
            raise InvalidRequest("It names no tool that is offered.", param="tool_choice.name")
        return offered, str(choice.name)
    if choice.type == "any" and not offered:
        raise InvalidRequest("There are no tools to choose from.", param="tool_choice")
    return offered, "required" if choice.type == "any" else choice.type


def _wanted_format(wanted: OutputConfig | None) -> dict[str, Any]:
    if wanted is None or wanted.format is None:
        return {}
    return schema_format(wanted.format.schema, None, strict=True)
