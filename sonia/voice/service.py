"""Sessions in memory, each with at most one socket and one answer being given."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sonia.config import Pipecat
from sonia.db import Database
from sonia.errors import Unavailable
from sonia.events import ReminderDue
from sonia.types import DEFAULT_USER, new_id, now
from sonia.voice.consenting import Settles
from sonia.voice.conversation import Conversation
from sonia.voice.interface import (
    Responder,
    SessionTaken,
    StartSession,
    TooManySessions,
    VoiceSession,
    VoiceSessionNotFound,
)
from sonia.voice.playback import Clock
from sonia.voice.speech import Speech, UnknownVoice
from sonia.voice.spoken_turns import SpokenTurn, SpokenTurns
from sonia.voice.talking import Talkers
from sonia.voice.telling import Send

CLOSED_KEPT = 256
SWEEP_S = 5.0


class TalkingSessions:
    """This module's `Voice`; its sockets come in through `talk`."""

    def __init__(self, config: Pipecat, shared: Talkers, spoken: SpokenTurns) -> None:
        self._config = config
        self._shared = shared
        self._spoken = spoken
        self._sessions: OrderedDict[str, VoiceSession] = OrderedDict()
        self._talking: dict[str, Conversation] = {}
        self._begun_at: dict[str, float] = {}  # by the clock that also tells idleness
        self._active_at: dict[str, float] = {}
        self._closing = False

    async def start(self, start: StartSession, *, ws_url: str) -> VoiceSession:
        """See `Voice.start`."""
        self._check(start)
        limit = self._config.max_sessions
        if sum(item.state == "ACTIVE" for item in self._sessions.values()) >= limit:
            raise TooManySessions(f"{limit} voice sessions are open. Stop one first.", limit=limit)
        session_id = new_id("ses")
        session = VoiceSession(
            session_id=session_id,
            state="ACTIVE",
            user_id=start.user_id,
            created_at=now(),
            ws_url=ws_url.replace("{session_id}", session_id),
            voice=start.voice,
            language=start.language,
            sample_rate=start.sample_rate,
            speed=start.speed,
            codec=start.codec,
            metadata=start.metadata,
        )
        self._sessions[session_id] = session
        self._begun_at[session_id] = self._active_at[session_id] = self._shared.clock.now()
        self._forget_closed()
        if (
            msgspec.structs.replace(start, user_id=DEFAULT_USER, metadata={}) != StartSession()
        ):  # it will be a spoken one
            self._shared.warm(start.voice or self._config.voice)
        return session

    async def session(self, session_id: str) -> VoiceSession:
        """See `Voice.session`."""
        session = self._sessions.get(session_id)
        if session is None:
            raise no_such_session(session_id)
        talking = self._talking.get(session_id)
        turns = talking.turns if talking else session.turns
        return msgspec.structs.replace(session, connected=talking is not None, turns=turns)

    async def sweep(self) -> None:
        """Close the sessions in which nobody says anything any more, and those that are too old."""
        now_s, config = self._shared.clock.now(), self._config
        for session_id, began_s in list(self._begun_at.items()):
            talking = self._talking.get(session_id)
            active_s = talking.active_at if talking else self._active_at[session_id]
            if now_s - began_s > config.max_session_s:
                await self.stop(session_id, f"it lasted for {config.max_session_s:g} s")
            elif now_s - active_s > config.idle_timeout_s:
                await self.stop(session_id, f"nobody spoke for {config.idle_timeout_s:g} s")

    async def turns(self, session_id: str) -> tuple[SpokenTurn, ...]:
        """What was said aloud, oldest first; of sessions from before a restart, too."""
        return await self._spoken.of(session_id)

    async def stop(self, session_id: str, reason: str = "stopped") -> VoiceSession:
        """See `Voice.stop`; the client is told the reason."""
        session = await self.session(session_id)
        closed = msgspec.structs.replace(session, state="CLOSED", connected=False)
        self._sessions[session_id] = closed
        if talking := self._talking.get(session_id):
            await talking.stop(reason)
        self._begun_at.pop(session_id, None)
        self._active_at.pop(session_id, None)
        return closed

    async def interrupt(self, session_id: str) -> VoiceSession:
        """See `Voice.interrupt`."""
        session = await self.session(session_id)
        if talking := self._talking.get(session_id):
            await talking.interrupt()
        return session

    async def remind(self, due: ReminderDue) -> str | None:
        """Tell a reminder in the sessions that its person has open; how it was told."""
        open_ones = [
            talking
            for session_id, talking in self._talking.items()
            if self._sessions[session_id].user_id == due.user_id
        ]
        for talking in open_ones:
            await talking.remind(due.text)
        return "voice session" if open_ones else None

    async def probe(self) -> dict[str, Any]:
        """Open sessions and live sockets."""
        if self._closing:
            raise Unavailable("Shutting down.")
        active = sum(item.state == "ACTIVE" for item in self._sessions.values())
        return {"sessions": active, "connected": len(self._talking), "audio": True}

    @asynccontextmanager
    async def talk(self, session_id: str, conversation: Conversation) -> AsyncIterator[None]:
        """Let `conversation` be this session's one socket until left.

        Raises `VoiceSessionNotFound`, `SessionTaken`.
        """
        session = await self.session(session_id)
        if session.state != "ACTIVE":
            raise VoiceSessionNotFound(f"Voice session {session_id!r} is closed. Start another.")
        if session_id in self._talking:
            raise SessionTaken(f"Another socket is talking in {session_id!r}.")
        self._talking[session_id] = conversation
        try:
            yield
        finally:
            del self._talking[session_id]
            if session_id in self._active_at:
                self._active_at[session_id] = conversation.active_at
            kept = self._sessions[session_id]
            self._sessions[session_id] = msgspec.structs.replace(
                kept, turns=kept.turns + conversation.turns
            )

    def conversation(self, session: VoiceSession, send: Send) -> Conversation:
        """A conversation that answers with this module's responder."""
        return Conversation(self._shared, session, send)

    async def close(self) -> None:
        """Say goodbye on every socket."""
        self._closing = True
        await asyncio.gather(*(item.stop("going away") for item in self._talking.values()))

    def _check(self, start: StartSession) -> None:
        known = [info.name for info in self._shared.speech.speaker.voices()]
        if start.voice and start.voice not in known:
            raise UnknownVoice(f"No voice {start.voice!r}. There are {', '.join(known)}.")

    def _forget_closed(self) -> None:
        closed = [key for key, item in self._sessions.items() if item.state == "CLOSED"]
        for key in closed[:-CLOSED_KEPT]:
            del self._sessions[key]


@asynccontextmanager
async def open_voice(
    config: Pipecat,
    responder: Responder,
    speech: Speech,
    db: Database,
    settles: Settles,
    *,
    clock: Clock | None = None,
) -> AsyncIterator[TalkingSessions]:
    """Serve voice sessions until left; leaving closes every socket.

    `settles` is told what a person says to what has to be approved.
    """
    spoken = SpokenTurns(db)
    shared = Talkers(config, responder, speech, spoken.keep, settles, clock)
    voice = TalkingSessions(config, shared, spoken)
    sweeping = asyncio.create_task(_sweep(voice), name="sweep voice sessions")
    try:
        yield voice
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await voice.close()
        await shared.close()


async def _sweep(voice: TalkingSessions) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await voice.sweep()


def no_such_session(session_id: str) -> VoiceSessionNotFound:
    """For an id that nobody has, or not whoever asks."""
    return VoiceSessionNotFound(
        f"No voice session {session_id!r}. Start one with POST /session/start.",
        session_id=session_id,
    )
