"""Voice: sessions and their sockets; speech to text and text to speech."""

from sonia.voice.attention import PATIENCE, Asks, Attention, Began, Ended, Patience, Paused, WentOn
from sonia.voice.clauses import Clauses, spoken
from sonia.voice.codec import FORMATS, Encoder, decoded
from sonia.voice.engines.opening import open_speech
from sonia.voice.g711 import Law, decoded_g711, encoded_g711
from sonia.voice.home import open_home
from sonia.voice.interface import (
    Responder,
    StartSession,
    Voice,
    VoiceSession,
    VoiceSessionNotFound,
)
from sonia.voice.languages import LANGUAGE_NAMES
from sonia.voice.resampling import Resampler
from sonia.voice.service import TalkingSessions, open_voice
from sonia.voice.speech import (
    EAR_RATE,
    VOICE_RATE,
    Hearing,
    Samples,
    Speaker,
    Speech,
    SpeechDetector,
    Transcriber,
    Transcript,
    TurnJudge,
    VoiceInfo,
    from_pcm,
    heard,
    joined,
    to_pcm,
)
from sonia.voice.spoken_turns import PLACES

__all__ = [
    "EAR_RATE",
    "FORMATS",
    "LANGUAGE_NAMES",
    "PATIENCE",
    "PLACES",
    "VOICE_RATE",
    "Asks",
    "Attention",
    "Began",
    "Clauses",
    "Encoder",
    "Ended",
    "Hearing",
    "Law",
    "Patience",
    "Paused",
    "Resampler",
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
    "WentOn",
    "decoded",
    "decoded_g711",
    "encoded_g711",
    "from_pcm",
    "heard",
    "joined",
    "open_home",
    "open_speech",
    "open_voice",
    "spoken",
    "to_pcm",
]
