"""Talking with Sonia: sessions, and the messages that go over their socket.

A session is made over REST and talked in over one WebSocket. Every message is JSON:
`{type, session_id, data, timestamp, correlation_id}`; `type` is read without regard to case.
Who answers is a `Responder`: voice never knows how.
"""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import msgspec

from sonia.errors import Conflict, NotFound, RateLimited
from sonia.turn import Turns
from sonia.types import DEFAULT_USER, Value

SessionState = Literal["ACTIVE", "CLOSED"]
ClientKind = Literal["MESSAGE", "AUDIO", "INTERRUPT", "END_TURN", "PING", "SESSION_STOP"]
ServerKind = Literal[
    "SESSION_START",
    "STATUS",
    "SPEECH_STARTED",
    "SPEECH_STOPPED",
    "PARTIAL_TRANSCRIPT",
    "TRANSCRIPT",
    "MESSAGE",
    "RESPONSE_DELTA",
    "AUDIO",
    "AUDIO_DONE",
    "INTERRUPTED",
    "APPROVAL_REQUIRED",
    "TURN_METRICS",
    "PONG",
    "ERROR",
    "SESSION_STOP",
]

Responder = Turns
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
SampleRate = Literal[8000, 16000, 24000, 48000]
Codec = Literal["pcm", "opus"]
Speed = Annotated[float, msgspec.Meta(ge=0.5, le=2)]


class VoiceSessionNotFound(NotFound):
    """No voice session has this id, or it was closed."""


class SessionTaken(Conflict):
    """Another socket is already talking in this session."""


class TooManySessions(RateLimited):
    """As many sessions are open as are allowed; `details["limit"]` is that number."""


class StartSession(Value):
    """`POST /session/start`; every field may be left out."""

    user_id: Annotated[str, msgspec.Meta(min_length=1, max_length=128)] = DEFAULT_USER
    voice: Name | None = None
    language: Name | None = None
    sample_rate: SampleRate | None = None
    speed: Speed | None = None
    codec: Codec = "pcm"
    metadata: dict[str, Any] = {}


class VoiceSession(Value):
    """One conversation by voice. `ws_url` is where to talk.

    `voice`, `language`, `speed` and `sample_rate` (Hz, both ways) are as asked for; None is as
    configured. `codec` is how sound travels, both ways.
    """

    session_id: str
    state: SessionState
    user_id: str
    created_at: dt.datetime
    ws_url: str
    turns: int = 0
    connected: bool = False
    voice: str | None = None
    language: str | None = None
    sample_rate: int | None = None
    speed: float | None = None
    codec: Codec = "pcm"
    metadata: dict[str, Any] = {}


class Frame(Value):
    """One message from the server, in the order sent."""

    type: ServerKind
    session_id: str
    data: dict[str, Any]
    timestamp: str
    correlation_id: str


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """One message from a client; unknown fields beside these are ignored, as the guide's are."""

    type: str
    data: dict[str, Any] = {}
    session_id: str | None = None
    timestamp: str | None = None
    correlation_id: str | None = None


@runtime_checkable
class Voice(Protocol):
    """Sessions, from start to stop."""

    async def start(self, start: StartSession, *, ws_url: str) -> VoiceSession:
        """Open a session; `ws_url` with `{session_id}` in it. Raises `TooManySessions`."""
        ...

    async def session(self, session_id: str) -> VoiceSession:
        """Raises `VoiceSessionNotFound`."""
        ...

    async def stop(self, session_id: str) -> VoiceSession:
        """Close it, cancelling what it is doing. Raises `VoiceSessionNotFound`."""
        ...

    async def interrupt(self, session_id: str) -> VoiceSession:
        """Stop the answer that is being given, if any. Raises `VoiceSessionNotFound`."""
        ...
