"""`WS /v1/realtime`: OpenAI's Realtime protocol over Sonia's ears, models and voice.

The model `sonia` is the whole assistant, with memory, tools and approvals; any other is that bare
model with the client's own functions. Sound is heard on this machine whatever the model.
"""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
from litestar import WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from litestar.handlers import WebsocketRouteHandler

from sonia.control import Control, Operator
from sonia.envelope import current, describe, translate
from sonia.errors import Conflict, Internal, InvalidRequest, SoniaError
from sonia.gateway.answering import ASSISTANT, Answers
from sonia.gateway.bodies import convert
from sonia.gateway.realtime_hearing import Buffer
from sonia.gateway.realtime_items import Items, message_of
from sonia.gateway.realtime_response import Response, Scene, Wanted
from sonia.gateway.realtime_session import Settings, changed, shown
from sonia.log import get_logger
from sonia.types import DEFAULT_USER, ApprovalId, Message, new_id
from sonia.voice import Speech

PROTOCOL = "realtime"
POLICY = 1008
MOST_IN_REPLY = 512
BETA_NAMES = {
    "response.output_text.delta": "response.text.delta",
    "response.output_text.done": "response.text.done",
    "response.output_audio.delta": "response.audio.delta",
    "response.output_audio.done": "response.audio.done",
    "response.output_audio_transcript.delta": "response.audio_transcript.delta",
    "response.output_audio_transcript.done": "response.audio_transcript.done",
    "conversation.item.added": "conversation.item.created",
    "conversation.item.done": "",
}
Event = dict[str, Any]


class Realtime:
    """One connection. `hear` its events one after another; enter nothing, `close` at the end."""

    def __init__(
        self,
        send: Any,
        *,
        answers: Answers,
        speech: Speech,
        settings: Settings,
        control: Control,
        operator: Operator,
        authorization: str | None,
        user_id: str,
        beta: bool,
        longest_s: float,
    ) -> None:
        self._send = send
        self._beta = beta
        self._control = control
        self._operator = operator
        self._authorization = authorization
        self._settings = settings
        self._id = new_id("sess")
        self._scene = Scene(
            tell=self.tell,
            items=Items(),
            answers=answers,
            speech=speech,
            user_id=user_id,
            session_id=new_id("ses"),
        )
        self._buffer = Buffer(
            self._scene, settings, began=self._began, said=self._said, longest_s=longest_s
        )
        self._response: Response | None = None
        self._running: asyncio.Task[None] | None = None
        self._aside: set[asyncio.Task[None]] = set()  # answers outside the conversation
        self._speaks = False

    async def tell(self, kind: str, **fields: Any) -> None:
        """Send one event, in the words of the protocol's version."""
        if self._beta:
            kind = BETA_NAMES.get(kind, kind)
        if kind:
            await self._send({"type": kind, "event_id": new_id("event"), **fields})

    async def greet(self) -> None:
        """The first event."""
        await self.tell("session.created", session=self._shown())
        if self._beta:
            conversation = {"id": self._scene.session_id, "object": "realtime.conversation"}
            await self.tell("conversation.created", conversation=conversation)

    async def hear(self, raw: str | bytes) -> None:
        """Deal with one event; what is wrong with it is told, never raised."""
        event: Event = {}
        try:
            event = _read(raw)
            await self._deal(event)
        except SoniaError as error:
            await self.wrong(error, event)

    async def close(self) -> None:
        """The client is gone."""
        await self._cancel("client_cancelled")
        for task in tuple(self._aside):
            task.cancel()
        await asyncio.gather(*self._aside, return_exceptions=True)
        await self._buffer.close()

    # --- events --------------------------------------------------------------------------

    async def _deal(self, event: Event) -> None:
        match event["type"]:
            case "session.update":
                await self._update(convert(event.get("session"), dict[str, Any], "session"))
            case "input_audio_buffer.append":
                await self._buffer.append(event.get("audio"))
            case "input_audio_buffer.commit":
                await self._buffer.commit()
            case "input_audio_buffer.clear":
                self._buffer.clear()
                await self.tell("input_audio_buffer.cleared")
            case "response.create":
                await self._create(event.get("response") or {})
            case "response.cancel":
                if not await self._cancel("client_cancelled"):
                    raise InvalidRequest("There is no answer to cancel.", param="response_id")
            case "output_audio_buffer.clear":
                await self._cancel("client_cancelled")
            case kind if kind.startswith("conversation.item."):
                await self._item(kind.rpartition(".")[2], event)
            case kind:
                raise InvalidRequest(f"Unknown event type {kind[:64]!r}.", param="type")

    async def _update(self, given: dict[str, Any]) -> None:
        settings = changed(self._settings, given, beta=self._beta)
        self._scene.answers.resolve(settings.model)
        settings.calls()
        if settings.voice != self._settings.voice:
            self._check_voice(settings.voice)
        self._settings = settings
        self._buffer.set(settings)
        await self.tell("session.updated", session=self._shown())

    def _check_voice(self, voice: str) -> None:
        if self._speaks:
            raise InvalidRequest(
                "The voice can't change once it was heard.", param="session.audio.output.voice"
            )
        if not self._scene.speech.speaker.has(voice):
            known = ", ".join(item.name for item in self._scene.speech.speaker.voices())
            raise InvalidRequest(
                f"No voice {voice!r}. There are {known}.", param="session.audio.output.voice"
            )

    async def _item(self, verb: str, event: Event) -> None:
        items, item_id = self._scene.items, event.get("item_id")
        match verb:
            case "create":
                await self._add(event)
            case "retrieve":
                await self.tell("conversation.item.retrieved", item=items.find(item_id))
            case "delete":
                items.delete(item_id)
                await self.tell("conversation.item.deleted", item_id=item_id)
            case "truncate":
                heard_ms = convert(event.get("audio_end_ms"), int, "audio_end_ms")
                items.truncate(item_id, heard_ms)
                await self.tell(
                    "conversation.item.truncated",
                    item_id=item_id,
                    content_index=0,
                    audio_end_ms=heard_ms,
                )
            case _:
                raise InvalidRequest(f"Unknown event type {event['type'][:64]!r}.", param="type")

    async def _add(self, event: Event) -> None:
        items = self._scene.items
        item = items.read(event.get("item"))
        if item["type"] == "mcp_approval_response":
            await self._settle(item)
        await self._buffer.add(item)
        previous = items.add(item, event.get("previous_item_id"))
        await self.tell("conversation.item.added", previous_item_id=previous, item=item)
        await self.tell("conversation.item.done", previous_item_id=previous, item=item)

    async def _settle(self, item: Event) -> None:
        """Whoever talks may deny; approving takes the operator's token on the connection."""
        if item["approve"]:
            self._operator.check(self._authorization)
        await self._control.settle(
            ApprovalId(item["approval_request_id"]),
            approve=item["approve"],
            by="realtime",
            reason=item.get("reason") or "",
            code=item.pop("confirmation_code", None),
        )

    # --- answers -------------------------------------------------------------------------

    async def _began(self) -> None:
        if self._settings.vad and self._settings.vad.interrupt_response:
            await self._cancel("turn_detected")

    async def _said(self, asked: bool) -> None:
        """A turn was heard. One that the client committed, it answers when it asks for it."""
        vad = self._settings.vad
        if vad and vad.create_response and not asked:
            await self._cancel("turn_detected")
            self._respond(Wanted(settings=self._settings))

    async def _create(self, given: Any) -> None:
        given = convert(given, dict[str, Any], "response")
        aside = given.get("conversation") == "none"
        if not aside and self._running and not self._running.done():
            raise AlreadyAnswering(
                "An answer is being given. Wait for response.done, or cancel it first."
            )
        wanted = Wanted(
            settings=changed(self._settings, given, beta=self._beta),
            messages=self._given(given.get("input")),
            in_conversation=not aside,
            metadata=given.get("metadata"),
        )
        wanted.settings.calls()
        self._respond(wanted)

    def _given(self, given: Any) -> tuple[Message, ...] | None:
        if given is None:
            return None
        told = convert(given, list[dict[str, Any]], "response.input")
        items = self._scene.items
        whole = [
            items.find(item["id"]) if item.get("type") == "item_reference" else items.read(item)
            for item in told[:MOST_IN_REPLY]
        ]
        return tuple(said for item in whole if (said := message_of(item)))

    def _respond(self, wanted: Wanted) -> None:
        self._speaks = self._speaks or wanted.settings.modality == "audio"
        response = Response(self._scene, wanted)
        running = asyncio.create_task(response.run(), name="realtime answer")
        if wanted.in_conversation:
            self._response, self._running = response, running
        else:
            self._aside.add(running)
            running.add_done_callback(self._aside.discard)

    async def _cancel(self, why: str) -> bool:
        response, running = self._response, self._running
        if response is None or running is None or running.done():
            return False
        response.why = why
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return True

    def _shown(self) -> Event:
        return shown(self._settings, self._id, beta=self._beta)

    async def wrong(self, error: SoniaError, event: Event) -> None:
        """Say what was wrong with `event`."""
        told = describe(error)
        server = isinstance(error, Internal)
        await self.tell(
            "error",
            error={
                "type": "server_error" if server else "invalid_request_error",
                "code": error.reason or told.code,
                "message": told.message,
                "param": error.details.get("param"),
                "event_id": event.get("event_id"),
            },
        )


class AlreadyAnswering(Conflict):
    """One answer at a time is given in a conversation."""

    reason = "conversation_already_has_active_response"


def _read(raw: str | bytes) -> Event:
    try:
        event = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidRequest(f"Not an event: {error}. Send one JSON object.") from error
    if not isinstance(event, dict) or not isinstance(event.get("type"), str):
        raise InvalidRequest("An event is a JSON object with a type.", param="type")
    return event


def realtime_routes(
    answers: Answers,
    speech: Speech,
    control: Control,
    operator: Operator,
    *,
    voice: str,
    longest_s: float,
) -> list[WebsocketRouteHandler]:
    """To be mounted below `/v1`. `voice` speaks unless the client names another."""

    @websocket("/realtime")
    async def realtime(socket: WebSocket[Any, Any, Any]) -> None:
        offered = socket.scope.get("subprotocols") or []
        await socket.accept(subprotocols=PROTOCOL if PROTOCOL in offered else None)
        encoder = msgspec.json.Encoder()

        async def send(event: Event) -> None:
            await socket.send_text(encoder.encode(event).decode())

        beta = "realtime=v1" in socket.headers.get("openai-beta", "") or (
            "openai-beta.realtime-v1" in offered
        )
        talk = Realtime(
            send,
            answers=answers,
            speech=speech,
            settings=Settings(model=socket.query_params.get("model") or ASSISTANT, voice=voice),
            control=control,
            operator=operator,
            authorization=socket.headers.get("authorization"),
            user_id=current().user_id or DEFAULT_USER,
            beta=beta,
            longest_s=longest_s,
        )
        try:
            answers.resolve(socket.query_params.get("model") or ASSISTANT)
            await talk.greet()
            await _listen(socket, talk)
        except WebSocketDisconnect:
            pass
        except Exception as error:  # noqa: BLE001  told to the client before the socket closes
            known = translate(error)
            if isinstance(known, Internal):
                get_logger("api-gateway").error("realtime failed", exc_info=error)
            await talk.wrong(known, {})
            await socket.close(code=POLICY, reason=known.message[:120])
        finally:
            await talk.close()

    return [realtime]


async def _listen(socket: WebSocket[Any, Any, Any], talk: Realtime) -> None:
    while True:
        message: Any = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        text = message.get("text")
        await talk.hear(text if text is not None else message.get("bytes") or b"")
