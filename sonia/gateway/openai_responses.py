"""`POST /v1/responses`: what its body means, and the object that every answer is."""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest
from sonia.gateway.answering import DEFAULT_MAX_TOKENS, Answers, Asked, session_name, session_of
from sonia.gateway.bodies import decode
from sonia.gateway.openai_chat import Described, Name, Tool, chosen, schema_format
from sonia.gateway.openai_items import kept_items, messages_of
from sonia.gateway.responses_store import Kept, Responses
from sonia.router import ChatRequest, Finished
from sonia.types import DEFAULT_USER, Message, ToolCall, Usage, new_id


class TextFormat(msgspec.Struct):
    """Words, any JSON object, or JSON of a schema."""

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None


class TextOptions(msgspec.Struct):
    """How the text is to look."""

    format: TextFormat | None = None
    verbosity: str | None = None


class FlatTool(msgspec.Struct):
    """A function, without the nesting of chat completions."""

    type: Literal["function"]
    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Reasoning(msgspec.Struct):
    """How long a model is to think, where it can choose."""

    effort: str | None = None


class Body(msgspec.Struct):
    """The request. Fields that change nothing here are not listed."""

    model: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    tools: list[FlatTool] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    stream: bool | None = None
    previous_response_id: str | None = None
    store: bool | None = None
    metadata: dict[str, Any] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None
    user: Name | None = None
    reasoning: Reasoning | None = None
    # What can't be done is refused, not passed over.
    background: bool | None = None
    conversation: Any = None
    prompt: Any = None
    top_logprobs: int | None = None


_decoder = msgspec.json.Decoder(Body)


class Wanted(msgspec.Struct):
    """One response that is asked for, and how it is told."""

    asked: Asked
    body: Body
    id: str
    created_at: int
    store: bool
    stream: bool
    one_call: bool
    before: tuple[Message, ...]

    def object(
        self,
        status: str,
        output: list[dict[str, Any]],
        finished: Finished | None = None,
        error: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The response as it stands."""
        body = self.body
        cut = status == "incomplete"
        form = body.text.format if body.text and body.text.format else TextFormat(type="text")
        told = {key: value for key, value in msgspec.to_builtins(form).items() if value is not None}
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": int(time.time()) if status == "completed" else None,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": _why_cut(finished)} if cut else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "model": finished.model if finished else self.asked.target.shown,
            "output": output,
            "parallel_tool_calls": not self.one_call,
            "previous_response_id": body.previous_response_id,
            "reasoning": {"effort": self.asked.request.reasoning_effort, "summary": None},
            "service_tier": "default",
            "store": self.store,
            "temperature": self.asked.request.temperature,
            "text": {"format": told},
            "tool_choice": body.tool_choice or "auto",
            "tools": [_echoed(tool) for tool in body.tools or ()],
            "top_logprobs": 0,
            "top_p": self.asked.request.top_p,
            "truncation": "disabled",
            "usage": usage_object(finished.usage) if finished else None,
            "user": body.user,
            "metadata": body.metadata or {},
        }

    def kept(self, shown: dict[str, Any], text: str, calls: list[ToolCall]) -> Kept:
        """What is stored of it, to go on from."""
        said = Message(role="assistant", content=text, tool_calls=tuple(calls))
        return Kept(
            id=self.id,
            user_id=self.asked.user_id,
            session_id=session_name(self.asked),
            created_at=self.created_at,
            body=shown,
            input=kept_items(self.body.input),
            messages=(*self.before, said),
        )


async def wanted_response(
    data: bytes,
    answers: Answers,
    responses: Responses,
    user_id: str | None,
    wishes: dict[str, bool],
) -> Wanted:
    """Read a body. Raises `InvalidRequest` that names the parameter, `NotFound`."""
    body = decode(_decoder, data)
    _refuse(body)
    target = answers.resolve(body.model)
    before: tuple[Message, ...] = ()
    if body.previous_response_id is not None:
        before = (await responses.find(body.previous_response_id, user_id)).messages
    before = (*before, *(messages_of(body.input) if body.input else ()))
    if not before:
        raise InvalidRequest("Missing required parameter: 'input'.", param="input")
    system = body.instructions
    told = (Message(role="system", content=system),) if system else ()
    tools, choice = chosen(_nested(body.tools), body.tool_choice)
    request = ChatRequest(
        messages=(*told, *before),
        model=target.model,
        profile=target.profile,
        tools=tools,
        tool_choice=choice,
        **_wanted_format(body.text.format if body.text else None),
        parallel_tool_calls=body.parallel_tool_calls is not False,
        reasoning_effort=body.reasoning.effort if body.reasoning else None,
        verbosity=body.text.verbosity if body.text else None,
        max_tokens=body.max_output_tokens or DEFAULT_MAX_TOKENS,
        temperature=answers.temperature(target, body.temperature),
        top_p=body.top_p or 1.0,
    )
    asked = Asked(
        target=target,
        request=request,
        user_id=user_id or body.user or DEFAULT_USER,
        session_id=session_of(body.metadata),
        **wishes,
    )
    return Wanted(
        asked=asked,
        body=body,
        id=new_id("resp"),
        created_at=int(time.time()),
        store=body.store is not False,
        stream=bool(body.stream),
        one_call=body.parallel_tool_calls is False,
        before=before,
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """As responses count."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _why_cut(finished: Finished | None) -> str:
    filtered = finished is not None and finished.reason == "content_filter"
    return "content_filter" if filtered else "max_output_tokens"


def _refuse(body: Body) -> None:
    if body.background:
        raise InvalidRequest("Responses are not made in the background here.", param="background")
    if body.conversation is not None:
        raise InvalidRequest("Use 'previous_response_id' instead.", param="conversation")
    if body.prompt is not None:
        raise InvalidRequest("There are no stored prompts here.", param="prompt")
    if body.top_logprobs:
        raise InvalidRequest("Probabilities of tokens are not given here.", param="top_logprobs")


def _nested(tools: list[FlatTool] | None) -> list[Tool]:
    return [
        Tool(
            type="function",
            function=Described(
                name=tool.name, description=tool.description, parameters=tool.parameters
            ),
        )
        for tool in tools or ()
    ]


def _echoed(tool: FlatTool) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(tool)
    return {**shown, "strict": tool.strict is not False}


def _wanted_format(wanted: TextFormat | None) -> dict[str, Any]:
    if wanted is None or wanted.type == "text":
        return {}
    if wanted.type == "json_object":
        return {"json_object": True}
    if wanted.schema is None:
        where = "text.format.schema"
        raise InvalidRequest(f"Missing required parameter: '{where}'.", param=where)
    return schema_format(wanted.schema, wanted.name, strict=wanted.strict)
