"""`POST /v1/chat/completions`: what its body means, and its answer in OpenAI's words."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest
from sonia.gateway.answering import DEFAULT_MAX_TOKENS, Answers, Asked, session_of
from sonia.gateway.bodies import called, decode
from sonia.router import ChatRequest
from sonia.types import DEFAULT_USER, Message, ToolCall, ToolSpec

MOST_CHOICES = 16
ANY_OBJECT: dict[str, Any] = {"type": "object"}

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
StopText = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Count = Annotated[int, msgspec.Meta(ge=1)]


class Text(msgspec.Struct, tag="text"):
    """A piece of a message."""

    text: str


class Refusal(msgspec.Struct, tag="refusal"):
    """What an assistant said instead of an answer."""

    refusal: str


class ImageUrl(msgspec.Struct):
    """Where the picture is."""

    url: str
    detail: str | None = None


class Image(msgspec.Struct, tag="image_url"):
    """A picture, by URL or as data."""

    image_url: ImageUrl


class Audio(msgspec.Struct, tag="input_audio"):
    """A recording."""


class File(msgspec.Struct, tag="file"):
    """A document."""


Content = str | list[Text | Refusal | Image | Audio | File]


class Function(msgspec.Struct):
    """A call as the assistant made it; `arguments` is JSON in a string."""

    name: str
    arguments: str


class Call(msgspec.Struct):
    """One of an assistant's calls."""

    id: str
    function: Function
    type: Literal["function"] = "function"


class Spoken(msgspec.Struct):
    """A message; which fields count depends on the role."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: Content | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None


class Described(msgspec.Struct):
    """A function that may be called."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct):
    """A tool of the client's."""

    type: Literal["function"]
    function: Described


class Schema(msgspec.Struct):
    """What the answer has to be."""

    name: Name
    schema: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class Format(msgspec.Struct):
    """Words, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: Schema | None = None


class StreamOptions(msgspec.Struct):
    """Whether the last chunk counts tokens."""

    include_usage: bool | None = None


class Body(msgspec.Struct):
    """The request. Fields that change nothing here are not listed."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    messages: Annotated[list[Spoken], msgspec.Meta(min_length=1, max_length=2048)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_completion_tokens: Count | None = None
    max_tokens: Count | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=MOST_CHOICES)] | None = None
    stop: StopText | Annotated[list[StopText], msgspec.Meta(max_length=4)] | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    tools: list[Tool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    response_format: Format | None = None
    user: Name | None = None
    metadata: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=20)] | None = None
    reasoning_effort: str | None = None
    verbosity: str | None = None
    # What can't be done is refused, not passed over.
    logit_bias: dict[str, float] | None = None
    modalities: list[str] | None = None
    audio: dict[str, Any] | None = None
    functions: list[Any] | None = None
    function_call: Any = None
    web_search_options: dict[str, Any] | None = None


class Completion(msgspec.Struct):
    """What to ask, how often, and how the answer is wanted."""

    asked: Asked
    choices: int
    stream: bool
    include_usage: bool
    one_call: bool


_decoder = msgspec.json.Decoder(Body)


def completion(
    data: bytes, answers: Answers, user_id: str | None, wishes: dict[str, bool]
) -> Completion:
    """Read a body. Raises `InvalidRequest` that names the parameter, and `ModelNotFound`."""
    body = decode(_decoder, data)
    _refuse(body)
    target = answers.resolve(body.model)
    tools, choice = chosen(body.tools, body.tool_choice)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    request = ChatRequest(
        messages=tuple(message(item, index) for index, item in enumerate(body.messages)),
        model=target.model,
        profile=target.profile,
        tools=tools,
        tool_choice=choice,
        **_wanted_format(body.response_format),
        max_tokens=body.max_completion_tokens or body.max_tokens or DEFAULT_MAX_TOKENS,
        temperature=answers.temperature(target, body.temperature),
        top_p=body.top_p or 1.0,
        seed=body.seed,
        stop=stop,
        frequency_penalty=body.frequency_penalty or 0.0,
        presence_penalty=body.presence_penalty or 0.0,
        parallel_tool_calls=body.parallel_tool_calls is not False,
        top_logprobs=(body.top_logprobs or 0) if body.logprobs else None,
        reasoning_effort=body.reasoning_effort,
        verbosity=body.verbosity,
    )
    asked = Asked(
        target=target,
        request=request,
        user_id=user_id or body.user or DEFAULT_USER,
        session_id=session_of(body.metadata),
        **wishes,
    )
    if target.assistant and (body.n or 1) > 1:
        raise InvalidRequest("sonia gives one answer.", param="n")
    return Completion(
        asked=asked,
        choices=body.n or 1,
        stream=bool(body.stream),
        include_usage=bool(body.stream_options and body.stream_options.include_usage),
        one_call=body.parallel_tool_calls is False,
    )


def another(asked: Asked, index: int) -> Asked:
    """The request for a further choice: with a seed of its own, where there is one."""
    if not index or asked.request.seed is None:
        return asked
    request = msgspec.structs.replace(asked.request, seed=asked.request.seed + index)
    return msgspec.structs.replace(asked, request=request)


def _refuse(body: Body) -> None:
    if body.top_logprobs is not None and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs to be true.", param="top_logprobs")
    if body.logit_bias:
        raise InvalidRequest("The bias of tokens can't be set here.", param="logit_bias")
    if body.audio or (body.modalities and body.modalities != ["text"]):
        raise InvalidRequest(
            "Answers are text. POST /v1/audio/speech says them aloud.", param="modalities"
        )
    if body.functions is not None:
        raise InvalidRequest("'functions' is no longer taken. Use 'tools'.", param="functions")
    if body.web_search_options is not None:
        raise InvalidRequest("There is no web search here.", param="web_search_options")


def message(said: Spoken, index: int) -> Message:
    """One message in the router's words. Raises `InvalidRequest`."""
    where = f"messages[{index}]"
    text = _words(said.content, f"{where}.content")
    match said.role:
        case "assistant":
            calls = tuple(
                called(
                    call.id,
                    call.function.name,
                    call.function.arguments,
                    f"{where}.tool_calls[{number}].function.arguments",
                )
                for number, call in enumerate(said.tool_calls or ())
            )
            return Message(role="assistant", content=text, tool_calls=calls)
        case "tool":
            if not said.tool_call_id:
                raise InvalidRequest(
                    f"Missing required parameter: '{where}.tool_call_id'.",
                    param=f"{where}.tool_call_id",
                )
            return Message(role="tool", content=text, tool_call_id=said.tool_call_id)
        case "function":
            raise InvalidRequest(
                "The role 'function' is no longer taken. Use 'tool'.", param=f"{where}.role"
            )
        case "developer":
            return Message(role="system", content=text)
        case role:
            if said.content is None:
                raise InvalidRequest(
                    f"Missing required parameter: '{where}.content'.", param=f"{where}.content"
                )
            pictures = _images(said.content, f"{where}.content")
            return Message(role=role, content=text, images=pictures)


def _images(content: Content | None, where: str) -> tuple[str, ...]:
    if content is None or isinstance(content, str):
        return ()
    return tuple(
        picture(part.image_url.url, f"{where}[{index}].image_url.url")
        for index, part in enumerate(content)
        if isinstance(part, Image)
    )


def picture(url: str, where: str) -> str:
    """An address that a model may be shown. Raises `InvalidRequest`."""
    if url.startswith("https://") or (url.startswith("data:image/") and ";base64," in url[:64]):
        return url
    raise InvalidRequest(
        "A picture is an https:// address or data:image/…;base64,… here.", param=where
    )


def _words(content: Content | None, where: str) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    words: list[str] = []
    for index, part in enumerate(content):
        if isinstance(part, Text):
            words.append(part.text)
        elif isinstance(part, Refusal):
            words.append(part.refusal)
        elif not isinstance(part, Image):
            kind = type(part).__struct_config__.tag
            raise InvalidRequest(
                f"Content of type '{kind}' can't be read here. Send text.",
                param=f"{where}[{index}].type",
            )
    return "\n".join(words)


def chosen(
    tools: list[Tool] | None, choice: str | dict[str, Any] | None
) -> tuple[tuple[ToolSpec, ...], str]:
    """The tools on offer, and the router's `tool_choice`. Raises `InvalidRequest`."""
    offered = tuple(
        ToolSpec(
            name=tool.function.name,
            description=tool.function.description or "",
            parameters=tool.function.parameters or {"type": "object", "properties": {}},
        )
        for tool in tools or ()
    )
    if choice is None or isinstance(choice, str):
        if choice not in (None, "auto", "none", "required"):
            raise InvalidRequest(
                f"tool_choice is {choice!r}. Use auto, none, required or a function's name in "
                'its object: {"type": "function", "function": {"name": …}}.',
                param="tool_choice",
            )
        if choice == "required" and not offered:
            raise InvalidRequest("tool_choice needs tools to choose from.", param="tool_choice")
        return offered, choice or "auto"
    return _named_choice(offered, choice)


def _named_choice(
    offered: tuple[ToolSpec, ...], choice: dict[str, Any]
) -> tuple[tuple[ToolSpec, ...], str]:
    names = {tool.name for tool in offered}
    if choice.get("type") == "allowed_tools":
        allowed = choice.get("allowed_tools", choice)
        wanted = {
            (tool.get("function") or tool).get("name")
            for tool in allowed.get("tools", ())
            if isinstance(tool, dict)
        }
        if wanted <= names and allowed.get("mode") in ("auto", "required"):
            return tuple(tool for tool in offered if tool.name in wanted), allowed["mode"]
    elif choice.get("type") == "function":
        name = (choice.get("function") or choice).get("name")
        if name in names:
            return offered, str(name)
    raise InvalidRequest(
        f"tool_choice names what is not offered. Offered are: {', '.join(sorted(names))}.",
        param="tool_choice",
    )


def _wanted_format(wanted: Format | None) -> dict[str, Any]:
    """What of the router's request it is."""
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"json_object": True}
    if wanted.json_schema is None:
        raise InvalidRequest(
            "Missing required parameter: 'response_format.json_schema'.",
            param="response_format.json_schema",
        )
    form = wanted.json_schema
    return schema_format(form.schema, form.name, strict=form.strict)


def schema_format(
    schema: dict[str, Any] | None, name: str | None, *, strict: bool | None
) -> dict[str, Any]:
    """A JSON Schema, as the router's request has it."""
    return {
        "json_schema": ANY_OBJECT if schema is None else schema,
        "schema_name": name or "answer",
        "schema_strict": bool(strict),
    }


def call_object(call: ToolCall) -> dict[str, Any]:
    """A call as an answer shows it."""
    arguments = msgspec.json.encode(call.arguments).decode()
    function = {"name": call.name, "arguments": arguments}
    return {"id": call.id, "type": "function", "function": function}
