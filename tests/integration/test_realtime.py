"""`WS /v1/realtime` with OpenAI's own client, scripted engines and a scripted model."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
import openai
import pytest

from sonia.errors import Unauthorized, UpstreamError
from sonia.gateway.answering import Answers
from sonia.gateway.realtime import realtime_routes
from sonia.turn import (
    ApprovalNeeded,
    MemoryUse,
    Provenance,
    Reply,
    ResponseDelta,
    TurnDone,
    TurnRequest,
)
from sonia.types import ToolCall, Usage, now
from sonia.voice import Samples, Speech, to_pcm
from tests.scripted import MODEL, ScriptedRouter, Step
from tests.serving import serving
from tests.voice_given import ScriptedJudge, ScriptedTranscriber, scripted_speech, silence, sound

RATE = 24_000
CALL = ToolCall(id="call_1", name="clock_read", arguments={"city": "Lisbon"})
CLOCK: dict[str, Any] = {
    "type": "function",
    "name": "clock_read",
    "description": "The time in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
}


class Assistant:
    """Turns that say one thing; with `asks`, a person has to answer first."""

    def __init__(self, *, asks: bool = False) -> None:
        self.requests: list[TurnRequest] = []
        self.asks = asks
        self.heard = ""
        self.settled = asyncio.Event()

    @asynccontextmanager
    async def turn(self, request: TurnRequest, *, reached: Any) -> AsyncIterator[Any]:
        self.requests.append(request)
        yield self._play(reached)

    async def _play(self, reached: Any) -> AsyncIterator[Any]:
        if self.asks:
            yield ApprovalNeeded(
                turn_id="turn_1",
                approval_id="appr_1",
                action_id="act_1",
                tool="file.write",
                preview="Write a.txt",
                risk_tier=2,
                expires_at=now(),
            )
            await self.settled.wait()
        yield ResponseDelta(turn_id="turn_1", text="At your service.")
        self.heard = await reached()
        reply = Reply(
            response=self.heard,
            session_id="ses_1",
            turn_id="turn_1",
            model=MODEL,
            provider="local",
            usage=Usage(prompt_tokens=3, completion_tokens=4),
            cost_usd=0.0,
            memory=MemoryUse(),
            tool_calls=(),
            provenance=Provenance(),
        )
        yield TurnDone(turn_id="turn_1", data=reply)


class Person:
    """Control and operator: answers that were given, and one token."""

    def __init__(self, turns: Assistant) -> None:
        self.turns = turns
        self.answers: list[tuple[str, bool]] = []
        self.codes: list[str | None] = []

    def check(self, authorization: str | None) -> None:
        if authorization != "Bearer operator":
            raise Unauthorized("The operator's token is missing.")

    async def settle(
        self, approval_id: str, *, approve: bool, by: str, reason: str, code: str | None
    ) -> None:
        self.answers.append((approval_id, approve))
        self.codes.append(code)
        self.turns.settled.set()


class Talk:
    """A connection, and what was told on it."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.events: list[Any] = []

    async def send(self, kind: str, **fields: Any) -> None:
        await self.connection.send({"type": kind, **fields})

    async def until(self, kind: str) -> Any:
        """The next event of this kind; those before it are kept."""
        async with asyncio.timeout(30):
            while True:
                event = await self.connection.recv()
                self.events.append(event)
                if event.type == kind:
                    return event

    async def says(self, text: str) -> None:
        content = [{"type": "input_text", "text": text}]
        await self.send(
            "conversation.item.create", item={"type": "message", "role": "user", "content": content}
        )

    async def speaks(self, samples: Samples, *, coded: bytes | None = None) -> None:
        pcm = to_pcm(samples) if coded is None else coded
        for at in range(0, len(pcm), 9600):
            part = base64.b64encode(pcm[at : at + 9600]).decode()
            await self.send("input_audio_buffer.append", audio=part)

    @property
    def kinds(self) -> list[str]:
        return [event.type for event in self.events]

    def audio(self, kind: str = "response.output_audio.delta") -> bytes:
        parts = [event.delta for event in self.events if event.type == kind]
        return b"".join(base64.b64decode(part) for part in parts)


@asynccontextmanager
async def talking(
    *scripts: list[Step],
    model: str = MODEL,
    speech: Speech | None = None,
    turns: Assistant | None = None,
    key: str = "none",
    headers: dict[str, str] | None = None,
    **session: Any,
) -> AsyncIterator[Talk]:
    router = ScriptedRouter(*scripts)
    assistant = turns or Assistant()
    person: Any = Person(assistant)
    answers = Answers(router, assistant, (), None)  # type: ignore[arg-type]
    handlers = realtime_routes(
        answers, speech or scripted_speech(), person, person, voice="af_heart", longest_s=60
    )
    async with (
        serving(handlers) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key) as client,
        client.realtime.connect(model=model, extra_headers=headers or {}) as connection,
    ):
        talk = Talk(connection)
        talk.given = SimpleNamespace(router=router, person=person)  # type: ignore[attr-defined]
        await talk.until("session.created")
        if session:
            await talk.send("session.update", session={"type": "realtime", **session})
            await talk.until("session.updated")
        talk.events.clear()
        yield talk


async def test_text_is_answered_in_text() -> None:
    async with talking(["It is ", "noon."], output_modalities=["text"]) as talk:
        await talk.says("What time is it?")
        await talk.send("response.create")

        done = await talk.until("response.done")

    assert talk.kinds == [
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
        "response.output_item.added",
        "conversation.item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "conversation.item.done",
        "response.done",
    ]
    assert done.response.status == "completed"
    assert done.response.output[0].content[0].text == "It is noon."
    assert done.response.usage.total_tokens > 0


async def test_text_is_answered_aloud() -> None:
    async with talking(["It is noon in Lisbon. ", "Shall we eat?"]) as talk:
        await talk.says("What time is it?")
        await talk.send("response.create")

        done = await talk.until("response.done")

    said = done.response.output[0].content[0].transcript
    assert said == "It is noon in Lisbon. Shall we eat?"
    assert len(talk.audio()) / 2 / RATE == pytest.approx(8 * 0.2, abs=0.05)


async def test_somebody_who_stops_speaking_is_answered() -> None:
    speech = scripted_speech(ScriptedTranscriber("what time is it"))
    async with talking(["Noon."], speech=speech) as talk:
        await talk.speaks(np.concatenate([sound(800, RATE), silence(900, RATE)]))

        heard = await talk.until("conversation.item.input_audio_transcription.completed")
        done = await talk.until("response.done")

    kinds = talk.kinds
    order = [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.input_audio_transcription.completed",
        "conversation.item.done",
        "response.created",
        "response.done",
    ]
    assert sorted(order, key=kinds.index) == order
    assert heard.transcript == "what time is it"
    assert done.response.status == "completed"
    (asked,) = talk.given.router.requests  # type: ignore[attr-defined]
    assert asked.messages[-1].content == "what time is it"


async def test_who_sounds_unfinished_is_waited_for_and_who_does_not_is_answered_soon() -> None:
    speech = scripted_speech(ScriptedTranscriber("what time is it"), ScriptedJudge(0.1))
    audio = {"input": {"turn_detection": {"type": "semantic_vad", "eagerness": "high"}}}
    parts = [sound(600, RATE), silence(300, RATE), sound(600, RATE), silence(300, RATE)]
    async with talking(["Noon."], speech=speech, audio=audio) as talk:
        await talk.speaks(np.concatenate(parts))

        stopped = await talk.until("input_audio_buffer.speech_stopped")
        await talk.until("response.done")

    assert stopped.audio_end_ms == pytest.approx(1500, abs=60)
    assert talk.kinds.count("input_audio_buffer.committed") == 1


async def test_push_to_talk_waits_for_the_client() -> None:
    speech = scripted_speech(ScriptedTranscriber("hello"))
    audio = {"input": {"turn_detection": None}}
    async with talking(["Hi."], speech=speech, audio=audio) as talk:
        await talk.speaks(sound(500, RATE))
        await talk.send("input_audio_buffer.commit")
        await talk.until("conversation.item.done")
        await talk.send("response.create")

        done = await talk.until("response.done")

    assert "input_audio_buffer.speech_started" not in talk.kinds
    assert done.response.output[0].content[0].transcript == "Hi."


async def test_speaking_over_her_stops_her() -> None:
    waits = asyncio.Event()
    async with talking(["I was about to say ", waits, "more."], ["Yes?"]) as talk:
        await talk.says("Tell me a story.")
        await talk.send("response.create")
        await talk.until("response.created")

        await talk.speaks(np.concatenate([sound(500, RATE), silence(700, RATE)]))
        cut = await talk.until("response.done")
        after = await talk.until("response.done")

    assert cut.response.status == "cancelled"
    assert cut.response.status_details.reason == "turn_detected"
    assert after.response.output[0].content[0].transcript == "Yes?"


async def test_the_clients_functions_are_called() -> None:
    async with talking([CALL], ["It is noon."], tools=[CLOCK], output_modalities=["text"]) as talk:
        await talk.says("What time is it in Lisbon?")
        await talk.send("response.create")
        call = await talk.until("response.function_call_arguments.done")
        await talk.until("response.done")

        output = {"type": "function_call_output", "call_id": call.call_id, "output": "12:00"}
        await talk.send("conversation.item.create", item=output)
        await talk.send("response.create")
        done = await talk.until("response.done")

    assert (call.name, call.arguments) == ("clock_read", '{"city":"Lisbon"}')
    assert done.response.output[0].content[0].text == "It is noon."
    asked = talk.given.router.requests[-1]  # type: ignore[attr-defined]
    assert [message.role for message in asked.messages] == ["user", "assistant", "tool"]


async def test_what_was_not_heard_is_cut_from_what_was_said() -> None:
    async with talking(["One two three four five. ", "Six seven."], ["Fine."]) as talk:
        await talk.says("Count.")
        await talk.send("response.create")
        done = await talk.until("response.done")
        item = done.response.output[0]

        await talk.send(
            "conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=610
        )
        await talk.until("conversation.item.truncated")
        await talk.says("Go on.")
        await talk.send("response.create")
        await talk.until("response.done")

    asked = talk.given.router.requests[-1]  # type: ignore[attr-defined]
    assert asked.messages[1].content == "One two three"


async def test_an_answer_can_be_cancelled() -> None:
    async with talking(["Wait ", asyncio.Event()], output_modalities=["text"]) as talk:
        await talk.says("Hello")
        await talk.send("response.create")
        await talk.until("response.output_text.delta")

        await talk.send("response.cancel")
        done = await talk.until("response.done")

    assert done.response.status == "cancelled"
    assert done.response.status_details.reason == "client_cancelled"
    assert talk.given.router.cancelled == 1  # type: ignore[attr-defined]


async def test_the_assistant_answers_with_memory_and_keeps_what_was_spoken() -> None:
    turns = Assistant()
    async with talking(model="sonia", turns=turns) as talk:
        await talk.says("Hello")
        await talk.send("response.create")
        done = await talk.until("response.done")

    assert done.response.output[0].content[0].transcript == "At your service."
    assert turns.requests[0].text == "Hello"
    assert turns.heard == "At your service."


@pytest.mark.parametrize(
    ("key", "approve", "answers"),
    [("none", False, [("appr_1", False)]), ("operator", True, [("appr_1", True)])],
)
async def test_a_person_answers_what_has_to_be_approved(
    key: str, approve: bool, answers: list[Any]
) -> None:
    turns = Assistant(asks=True)
    async with talking(model="sonia", turns=turns, key=key) as talk:
        await talk.says("Write a file.")
        await talk.send("response.create")
        asked = await talk.until("response.output_item.done")

        reply = {
            "type": "mcp_approval_response",
            "approval_request_id": asked.item.id,
            "approve": approve,
        }
        await talk.send("conversation.item.create", item=reply)
        await talk.until("response.done")

    assert asked.item.type == "mcp_approval_request"
    assert talk.given.person.answers == answers  # type: ignore[attr-defined]


async def test_the_worst_is_approved_with_its_confirmation_code() -> None:
    turns = Assistant(asks=True)
    async with talking(model="sonia", turns=turns, key="operator") as talk:
        await talk.says("Write a file.")
        await talk.send("response.create")
        asked = await talk.until("response.output_item.done")

        reply = {
            "type": "mcp_approval_response",
            "approval_request_id": asked.item.id,
            "approve": True,
            "confirmation_code": "427709",
        }
        await talk.send("conversation.item.create", item=reply)
        await talk.until("response.done")

    assert talk.given.person.codes == ["427709"]  # type: ignore[attr-defined]


async def test_t12_a_program_without_the_operators_token_can_not_approve() -> None:
    turns = Assistant(asks=True)
    async with talking(model="sonia", turns=turns) as talk:
        reply = {"type": "mcp_approval_response", "approval_request_id": "x", "approve": True}
        await talk.send("conversation.item.create", item=reply)

        error = await talk.until("error")

    assert error.error.code == "unauthorized"
    assert talk.given.person.answers == []  # type: ignore[attr-defined]


async def test_the_beta_is_spoken_when_it_is_asked_for() -> None:
    async with talking(["Noon."], headers={"OpenAI-Beta": "realtime=v1"}) as talk:
        await talk.send(
            "session.update", session={"modalities": ["text", "audio"], "voice": "alloy"}
        )
        updated = await talk.until("session.updated")
        await talk.says("What time is it?")
        await talk.send("response.create")
        await talk.until("response.done")

    assert updated.session.voice == "alloy"
    assert updated.session.input_audio_format == "pcm16"
    assert "conversation.item.created" in talk.kinds
    assert "response.audio.delta" in talk.kinds
    assert not {"conversation.item.added", "response.output_audio.delta"} & set(talk.kinds)


async def test_a_telephones_sound_is_heard_and_made() -> None:
    form = {"type": "audio/pcmu"}
    audio = {"input": {"format": form, "turn_detection": None}, "output": {"format": form}}
    async with talking(["One two."], audio=audio) as talk:
        await talk.speaks(np.empty(0), coded=b"\x55" * 4000)
        await talk.send("input_audio_buffer.commit")
        await talk.until("conversation.item.done")
        await talk.send("response.create")
        await talk.until("response.done")

    assert len(talk.audio()) / 8000 == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    ("event", "param"),
    [
        ({"type": "no.such.event"}, "type"),
        ({"type": "session.update", "session": {"output_modalities": ["smell"]}}, "session"),
        ({"type": "session.update", "session": 7}, "session"),
        (
            {"type": "session.update", "session": {"audio": {"output": {"voice": "nobody"}}}},
            "session.audio.output.voice",
        ),
        ({"type": "input_audio_buffer.append", "audio": "!!"}, "audio"),
        ({"type": "input_audio_buffer.append", "audio": "AAAA"}, "audio"),
        ({"type": "input_audio_buffer.append"}, "audio"),
        ({"type": "input_audio_buffer.commit"}, None),
        ({"type": "conversation.item.create", "item": {"type": "x"}}, "item.type"),
        ({"type": "conversation.item.delete", "item_id": "none"}, "item_id"),
        ({"type": "conversation.item.truncate", "item_id": "none", "audio_end_ms": 1}, "item_id"),
        ({"type": "response.cancel"}, "response_id"),
    ],
)
async def test_what_is_wrong_is_named_and_the_session_goes_on(
    event: Any, param: str | None
) -> None:
    async with talking(["Fine."], output_modalities=["text"]) as talk:
        await talk.connection.send({**event, "event_id": "mine"})
        error = await talk.until("error")
        await talk.says("Still there?")
        await talk.send("response.create")
        done = await talk.until("response.done")

    assert error.error.event_id == "mine"
    assert (error.error.param or "").startswith(param or "")
    assert done.response.status == "completed"


async def test_one_answer_at_a_time_is_given() -> None:
    async with talking(["Wait ", asyncio.Event()], output_modalities=["text"]) as talk:
        await talk.says("Hello")
        await talk.send("response.create")
        await talk.until("response.output_text.delta")

        await talk.send("response.create")
        error = await talk.until("error")

    assert error.error.code == "conversation_already_has_active_response"


@pytest.mark.parametrize("broken", ["model", "ears", "voice"])
async def test_what_fails_is_told_and_the_session_goes_on(broken: str) -> None:
    speech = scripted_speech(ScriptedTranscriber("hello"))
    down = UpstreamError("It is down.")
    scripts: list[list[Step]] = [[down] if broken == "model" else ["Fine."], ["Fine."]]
    async with talking(*scripts, speech=speech, audio={"input": {"turn_detection": None}}) as talk:
        if broken == "ears":
            speech.transcriber.failing = down  # type: ignore[attr-defined]
            await talk.speaks(sound(300, RATE))
            await talk.send("input_audio_buffer.commit")
            failed = await talk.until("conversation.item.input_audio_transcription.failed")
            assert failed.error.message == "It is down."
        elif broken == "voice":
            speech.speaker.failing = down  # type: ignore[attr-defined]
        await talk.says("Hello")
        await talk.send("response.create")
        first = await talk.until("response.done")
        speech.speaker.failing = None  # type: ignore[attr-defined]
        await talk.send("response.create")
        second = await talk.until("response.done")

    assert first.response.status == ("completed" if broken == "ears" else "failed")
    assert second.response.status == "completed"


async def test_a_model_that_is_not_there_is_told_and_the_socket_closed() -> None:
    handlers = realtime_routes(
        Answers(ScriptedRouter(), Assistant(), (), None),  # type: ignore[arg-type]
        scripted_speech(),
        Person(Assistant()),  # type: ignore[arg-type]
        Person(Assistant()),  # type: ignore[arg-type]
        voice="af_heart",
        longest_s=60,
    )
    async with (
        serving(handlers) as url,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client,
        client.realtime.connect(model="no-such-model") as connection,
    ):
        error = await connection.recv()

    assert error.type == "error"
    assert error.error.code == "model_not_found"
