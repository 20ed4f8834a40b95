"""Voice: sessions and their sockets."""

from sonia.voice.interface import (
    Responder,
    StartSession,
    Voice,
    VoiceSession,
    VoiceSessionNotFound,
)
from sonia.voice.service import TalkingSessions, open_voice

__all__ = [
    "Responder",
    "StartSession",
    "TalkingSessions",
    "Voice",
    "VoiceSession",
    "VoiceSessionNotFound",
    "open_voice",
]
