"""One answer in a realtime conversation: a model's words, spoken as they come, as events."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import msgspec

from sonia.envelope import translate
from sonia.errors import Internal, InvalidRequest
from sonia.gateway.answering import DEFAULT_MAX_TOKENS, Answers, Asked
from sonia.gateway.realtime_items import Heard, Items
from sonia.gateway.realtime_session import Format, Settings
from sonia.log import get_logger
from sonia.router import ChatRequest, Finished, TextDelta, ToolCallProposed
from sonia.turn import ApprovalNeeded, ResponseDelta, TurnDone, TurnRequest
from sonia.types import Message, ToolCall, Usage, new_id
from sonia.voice import (
    VOICE_RATE,
    Clauses,
    Law,
    Resampler,
    Samples,
    Speech,
    encoded_g711,
    spoken,
    to_pcm,
)

LAWS: dict[str, Law] = {"audio/pcmu": "mulaw", "audio/pcma": "alaw"}
Tell = Callable[..., Awaitable[None]]


class Scene(msgspec.Struct, kw_only=True):
    """What all answers of a conversation share."""

    tell: Tell
    items: Items
    answers: Answers
    speech: Speech
    user_id: str
    session_id: str  # the assistant's


class Wanted(msgspec.Struct, kw_only=True):
    """What one `response.create` asks for. `messages` replaces the conversation's."""

    settings: Settings
    messages: tuple[Message, ...] | None = None
    in_conversation: bool = True
    metadata: dict[str, Any] | None = None


class Response:
    """`run` it once; cancelling ends it with the reason of `why`."""

    def __init__(self, scene: Scene, wanted: Wanted) -> None:
        self._scene = scene
        self._wanted = wanted
        self._settings = wanted.settings
        self._tell = scene.tell
        self._output: list[dict[str, Any]] = []
        self._message: dict[str, Any] | None = None  # the one that is being said
        self._words = ""
        self._parts: list[Heard] = []
        self._clauses: asyncio.Queue[str | None] = asyncio.Queue()
        self._usage: Usage | None = None
        self._cut = False
        self.id = new_id("resp")
        self.why = "client_cancelled"

    async def run(self) -> None:
        """Tell it from `response.created` to `response.done`, whatever happens."""
        await self._tell("response.created", response=self._object("in_progress"))
        status = "completed"
        details: dict[str, Any] | None = None
        try:
            await self._answer()
            if self._cut:
                status, details = "incomplete", {"reason": "max_output_tokens"}
        except asyncio.CancelledError:
            status, details = "cancelled", {"reason": self.why}
        except Exception as error:  # noqa: BLE001  told to the client; the conversation goes on
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("api-gateway").error("realtime answer failed", exc_info=error)
            status = "failed"
            details = {"error": {"type": known.code, "code": known.code, "message": known.message}}
        await self._close(status)
        if details:
            details = {"type": status, **details}
        await self._tell("response.done", response=self._object(status, details))

    # --- the model -----------------------------------------------------------------------

    async def _answer(self) -> None:
        aloud = self._settings.modality == "audio"
        speaking = asyncio.create_task(self._speak()) if aloud else None
        try:
            if self._scene.answers.resolve(self._settings.model).assistant:
                await self._assist(speaking)
            else:
                await self._ask()
                await self._said(speaking)
        finally:
            if speaking:
                speaking.cancel()
                await asyncio.gather(speaking, return_exceptions=True)

    async def _said(self, speaking: asyncio.Task[None] | None) -> None:
        """Wait until all of it is sound."""
        self._clauses.put_nowait(None)
        if speaking:
            await speaking

    async def _ask(self) -> None:
        """A bare model, with the client's functions."""
        clauses = Clauses()
        async with self._scene.answers.open(self._asked()) as opened:
            async for event in opened.events:
                if isinstance(event, TextDelta):
                    await self._word(event.text, clauses)
                elif isinstance(event, ToolCallProposed):
                    await self._call(event.call)
                elif isinstance(event, Finished):
                    self._usage = event.usage
                    self._cut = event.reason == "length"
        self._queue(clauses.end())

    async def _assist(self, speaking: asyncio.Task[None] | None) -> None:
        """The whole of Sonia; what needs a person's approval is asked as an item."""
        *before, last = self._messages() or (Message(role="system", content=""),)
        if last.role != "user":
            raise InvalidRequest("There is nothing to answer: the last item has to be the user's.")
        if self._settings.tools:
            raise InvalidRequest("sonia uses tools of her own; yours need a bare model.")
        request = TurnRequest(
            text=last.content,
            session_id=self._scene.session_id,
            user_id=self._scene.user_id,
            history=tuple(before),
            wait_for_approval=True,
            max_answer_tokens=self._most(),
        )
        clauses = Clauses()

        async def reached() -> str:
            self._queue(clauses.end())
            await self._said(speaking)
            return self._words

        async with self._scene.answers.turns.turn(request, reached=reached) as steps:
            async for step in steps:
                if isinstance(step, ResponseDelta):
                    await self._word(step.text, clauses)
                elif isinstance(step, ApprovalNeeded):
                    await self._approval(step)
                elif isinstance(step, TurnDone):
                    self._usage = step.data.usage

    def _asked(self) -> Asked:
        settings, answers = self._settings, self._scene.answers
        target = answers.resolve(settings.model)
        told = settings.instructions
        system = (Message(role="system", content=told),) if told else ()
        tools, choice = settings.calls()
        messages = (*system, *self._messages())
        if not messages:
            raise InvalidRequest("There is nothing to answer yet.")
        return Asked(
            target=target,
            request=ChatRequest(
                messages=messages,
                model=target.model,
                profile=target.profile,
                tools=tools,
                tool_choice=choice,
                max_tokens=self._most() or DEFAULT_MAX_TOKENS,
                temperature=answers.temperature(target, None),
            ),
            user_id=self._scene.user_id,
        )

    def _messages(self) -> tuple[Message, ...]:
        given = self._wanted.messages
        return self._scene.items.messages() if given is None else given

    def _most(self) -> int | None:
        most = self._settings.max_output_tokens
        return most if isinstance(most, int) else None

    # --- words and sound -----------------------------------------------------------------

    async def _word(self, text: str, clauses: Clauses) -> None:
        if self._settings.modality == "audio":
            self._queue(clauses.feed(text))
            return
        where = await self._open()
        self._words += text
        await self._tell("response.output_text.delta", **where, delta=text)

    def _queue(self, clauses: list[str]) -> None:
        for clause in clauses:
            self._clauses.put_nowait(clause)

    async def _speak(self) -> None:
        settings = self._settings
        out = Resampler(VOICE_RATE, settings.spoken.rate_hz)
        while (clause := await self._clauses.get()) is not None:
            where = await self._open()
            self._words += clause
            await self._tell("response.output_audio_transcript.delta", **where, delta=clause)
            words = spoken(clause)
            length = 0
            if any(letter.isalnum() for letter in words):
                sounds = self._scene.speech.speaker.speak(
                    words, voice=settings.voice, speed=settings.speed
                )
                async with aclosing(sounds) as pieces:  # type: ignore[type-var]
                    async for piece in pieces:
                        length += len(piece)
                        await self._sound(where, out.feed(piece))
            self._parts.append(Heard(clause, length / VOICE_RATE * 1000))
        if self._message and len(rest := out.end()):
            await self._sound(self._where(self._message), rest)

    async def _sound(self, where: dict[str, Any], sound: Samples) -> None:
        coded = base64.b64encode(coded_sound(sound, self._settings.spoken)).decode()
        await self._tell("response.output_audio.delta", **where, delta=coded)

    # --- items ---------------------------------------------------------------------------

    async def _open(self) -> dict[str, Any]:
        """The message that is being said, begun if it is not; where its deltas go."""
        if self._message is None:
            item = {
                "id": new_id("item"),
                "object": "realtime.item",
                "type": "message",
                "role": "assistant",
                "status": "in_progress",
                "content": [],
            }
            self._message = item
            self._words, self._parts = "", []
            await self._added(item)
            await self._tell("response.content_part.added", **self._where(item), part=self._part())
        return self._where(self._message)

    def _where(self, item: dict[str, Any]) -> dict[str, Any]:
        return {
            "response_id": self.id,
            "item_id": item["id"],
            "output_index": self._output.index(item),
            "content_index": 0,
        }

    def _part(self) -> dict[str, Any]:
        if self._settings.modality == "audio":
            return {"type": "audio", "transcript": self._words}
        return {"type": "text", "text": self._words}

    async def _added(self, item: dict[str, Any]) -> None:
        self._output.append(item)
        await self._tell(
            "response.output_item.added",
            response_id=self.id,
            output_index=len(self._output) - 1,
            item=item,
        )
        if self._wanted.in_conversation:
            previous = self._scene.items.add(item)
            await self._tell("conversation.item.added", previous_item_id=previous, item=item)

    async def _done(self, item: dict[str, Any]) -> None:
        await self._tell(
            "response.output_item.done",
            response_id=self.id,
            output_index=self._output.index(item),
            item=item,
        )
        if self._wanted.in_conversation:
            await self._tell("conversation.item.done", item=item)

    async def _close(self, status: str) -> None:
        """End the message that is being said."""
        item, self._message = self._message, None
        if item is None:
            return
        where, aloud = self._where(item), self._settings.modality == "audio"
        item["status"] = "completed" if status == "completed" else "incomplete"
        if aloud:
            item["content"] = [{"type": "output_audio", "transcript": self._words}]
            self._scene.items.spoken[item["id"]] = self._parts
            await self._tell("response.output_audio.done", **where)
            await self._tell(
                "response.output_audio_transcript.done", **where, transcript=self._words
            )
        else:
            item["content"] = [{"type": "output_text", "text": self._words}]
            await self._tell("response.output_text.done", **where, text=self._words)
        await self._tell("response.content_part.done", **where, part=self._part())
        await self._done(item)

    async def _call(self, call: ToolCall) -> None:
        arguments = msgspec.json.encode(call.arguments).decode()
        item = {
            "id": new_id("item"),
            "object": "realtime.item",
            "type": "function_call",
            "status": "in_progress",
            "call_id": call.id,
            "name": call.name,
            "arguments": "",
        }
        await self._added(item)
        where = {key: value for key, value in self._where(item).items() if key != "content_index"}
        where["call_id"] = call.id
        await self._tell("response.function_call_arguments.delta", **where, delta=arguments)
        item |= {"status": "completed", "arguments": arguments}
        await self._tell(
            "response.function_call_arguments.done", **where, name=call.name, arguments=arguments
        )
        await self._done(item)

    async def _approval(self, needed: ApprovalNeeded) -> None:
        """`arguments` is what would happen, as control shows it, whole."""
        item = {
            "id": needed.approval_id,
            "object": "realtime.item",
            "type": "mcp_approval_request",
            "server_label": "sonia",
            "name": needed.tool,
            "arguments": msgspec.json.encode({"preview": needed.preview}).decode(),
        }
        await self._added(item)
        await self._done(item)

    def _object(self, status: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
        settings = self._settings
        over = status != "in_progress"
        return {
            "id": self.id,
            "object": "realtime.response",
            "status": status,
            "status_details": details,
            "output": list(self._output) if over else [],
            "output_modalities": [settings.modality],
            "audio": {"output": {"format": settings.spoken.shown(), "voice": settings.voice}},
            "max_output_tokens": settings.max_output_tokens,
            "conversation_id": self._scene.session_id if self._wanted.in_conversation else None,
            "metadata": self._wanted.metadata,
            "usage": _usage(self._usage or Usage()) if over else None,
        }


def _usage(usage: Usage) -> dict[str, Any]:
    """As realtime sessions count; sound is heard and made here, and costs no tokens."""
    text = {"text_tokens": usage.prompt_tokens, "audio_tokens": 0, "image_tokens": 0}
    return {
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "input_token_details": text | {"cached_tokens": usage.cached_tokens},
        "output_token_details": {"text_tokens": usage.completion_tokens, "audio_tokens": 0},
    }


def coded_sound(sound: Samples, form: Format) -> bytes:
    """Samples at the format's rate as its bytes."""
    return encoded_g711(sound, LAWS[form.type]) if form.type in LAWS else to_pcm(sound)
