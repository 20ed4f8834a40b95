"""Voice: sessions and their sockets; speech to text and text to speech."""

from sonia.voice.codec import FORMATS, Encoder, decoded
from sonia.voice.engines.opening import open_speech
from sonia.voice.home import open_home
from sonia.voice.interface import (
    Responder,
    StartSession,
    Voice,
    VoiceSession,
    VoiceSessionNotFound,
)
from sonia.voice.languages import LANGUAGE_NAMES
from sonia.voice.service import TalkingSessions, open_voice
from sonia.voice.speech import (
    EAR_RATE,
    Hearing,
    Samples,
    Speaker,
    Speech,
    SpeechDetector,
    Transcriber,
    Transcript,
    TurnJudge,
    VoiceInfo,
    heard,
    joined,
)
from sonia.voice.spoken_turns import PLACES

__all__ = [
    "EAR_RATE",
    "FORMATS",
    "LANGUAGE_NAMES",
    "PLACES",
    "Encoder",
    "Hearing",
    "Responder",
    "Samples",
    "Speaker",
    "Speech",
    "SpeechDetector",
    "StartSession",
    "TalkingSessions",
    "Transcriber",
    "Transcript",
    "TurnJudge",
    "Voice",
    "VoiceInfo",
    "VoiceSession",
    "VoiceSessionNotFound",
    "decoded",
    "heard",
    "joined",
    "open_home",
    "open_speech",
    "open_voice",
]
