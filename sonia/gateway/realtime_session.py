"""A realtime session's settings: what `session.update` may say, and how the session is shown.

Field by field as OpenAI's Realtime protocol has them, in its general form and, for clients that
ask for it (`OpenAI-Beta: realtime=v1`), in the form of the beta.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from sonia.errors import InvalidRequest
from sonia.gateway.bodies import convert
from sonia.gateway.openai_chat import Described, Tool, chosen
from sonia.gateway.openai_responses import FlatTool
from sonia.types import ToolSpec
from sonia.voice import PATIENCE, Patience

Modality = Literal["audio", "text"]
Kind = Literal["audio/pcm", "audio/pcmu", "audio/pcma"]
RATES: dict[str, int] = {"audio/pcm": 24_000, "audio/pcmu": 8000, "audio/pcma": 8000}
BETA_FORMATS: dict[str, Kind] = {
    "pcm16": "audio/pcm",
    "g711_ulaw": "audio/pcmu",
    "g711_alaw": "audio/pcma",
}
EAGERNESS = {"low": "patient", "medium": "balanced", "auto": "balanced", "high": "quick"}
NEVER_MS = 1e9


class Format(msgspec.Struct, frozen=True):
    """How sound is coded. PCM is 16-bit, little-endian, mono."""

    type: Kind = "audio/pcm"
    rate: Literal[8000, 16000, 24000, 48000] | None = None

    @property
    def rate_hz(self) -> int:
        """Samples a second."""
        return self.rate or RATES[self.type] if self.type == "audio/pcm" else RATES[self.type]

    def shown(self) -> dict[str, Any]:
        """As the protocol has it: only PCM says its rate."""
        return {"type": self.type} | ({"rate": self.rate_hz} if self.type == "audio/pcm" else {})


class Vad(msgspec.Struct, frozen=True):
    """How the end of somebody's turn is found: by silence alone, or by what it sounds like."""

    type: Literal["server_vad", "semantic_vad"] = "server_vad"
    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    prefix_padding_ms: Annotated[int, msgspec.Meta(ge=0, le=10_000)] = 300
    silence_duration_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 500
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"
    create_response: bool = True
    interrupt_response: bool = True
    idle_timeout_ms: int | None = None

    @property
    def patience(self) -> Patience:
        """How long which silence is waited for."""
        if self.type == "semantic_vad":
            return PATIENCE[EAGERNESS[self.eagerness]]
        return Patience(ask_ms=NEVER_MS, longest_ms=max(64, self.silence_duration_ms))

    def shown(self) -> dict[str, Any]:
        """The fields of its kind."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        silent = ("threshold", "prefix_padding_ms", "silence_duration_ms", "idle_timeout_ms")
        drop = silent if self.type == "semantic_vad" else ("eagerness",)
        return {name: value for name, value in told.items() if name not in drop}


class Transcription(msgspec.Struct, frozen=True):
    """Whether what is said is told in writing, too."""

    model: str = "whisper-base"
    language: str | None = None
    prompt: str | None = None


class Settings(msgspec.Struct, frozen=True):
    """All of a session that a client may choose."""

    model: str
    voice: str
    instructions: str = ""
    modality: Modality = "audio"
    heard: Format = Format()
    spoken: Format = Format()
    vad: Vad | None = Vad()
    transcription: Transcription | None = Transcription()
    speed: Annotated[float, msgspec.Meta(ge=0.25, le=1.5)] = 1.0
    tools: tuple[FlatTool, ...] = ()
    tool_choice: str | dict[str, Any] = "auto"
    max_output_tokens: int | Literal["inf"] = "inf"

    def calls(self) -> tuple[tuple[ToolSpec, ...], str]:
        """The tools and the choice, as a model is asked. Raises `InvalidRequest`."""
        nested = [
            Tool(
                type="function",
                function=Described(
                    name=tool.name, description=tool.description, parameters=tool.parameters
                ),
            )
            for tool in self.tools
        ]
        choice = self.tool_choice
        if isinstance(choice, dict) and "name" in choice:
            choice = {"type": "function", "function": {"name": choice["name"]}}
        return chosen(nested, choice if nested else None)


def changed(before: Settings, given: dict[str, Any], *, beta: bool) -> Settings:
    """`before` with what `given` says otherwise. Raises `InvalidRequest` naming the field.

    What the protocol knows and this does nothing with is passed over.
    """
    told = _from_beta(given) if beta or "modalities" in given else given
    fields: dict[str, Any] = {}
    for name in ("instructions", "max_output_tokens", "model"):
        if told.get(name) is not None:
            fields[name] = told[name]
    if (modalities := told.get("output_modalities")) is not None:
        wanted = convert(modalities, list[Modality], "session.output_modalities")
        if len(wanted) != 1:
            raise InvalidRequest(
                "One of ['audio'] and ['text'].", param="session.output_modalities"
            )
        fields["modality"] = wanted[0]
    if (tools := told.get("tools")) is not None:
        fields["tools"] = tuple(convert(tools, list[FlatTool], "session.tools"))
    if told.get("tool_choice") is not None:
        fields["tool_choice"] = told["tool_choice"]
    fields |= _audio(before, convert(told.get("audio") or {}, dict[str, Any], "session.audio"))
    whole = {name: getattr(before, name) for name in before.__struct_fields__} | fields
    return convert(_plain(whole), Settings, "session")


def _audio(before: Settings, audio: dict[str, Any]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    heard = convert(audio.get("input") or {}, dict[str, Any], "session.audio.input")
    spoken = convert(audio.get("output") or {}, dict[str, Any], "session.audio.output")
    if heard.get("format"):
        fields["heard"] = convert(heard["format"], Format, "session.audio.input.format")
    if "turn_detection" in heard:
        kept = msgspec.to_builtins(before.vad) if before.vad else {}
        given = heard["turn_detection"]
        where = "session.audio.input.turn_detection"
        fields["vad"] = None if given is None else convert({**kept, **_map(given)}, Vad, where)
    if "transcription" in heard:
        given, where = heard["transcription"], "session.audio.input.transcription"
        fields["transcription"] = None if given is None else convert(given, Transcription, where)
    if spoken.get("format"):
        fields["spoken"] = convert(spoken["format"], Format, "session.audio.output.format")
    if spoken.get("voice") is not None:
        voice = spoken["voice"]
        fields["voice"] = voice.get("id", "") if isinstance(voice, dict) else voice
    if spoken.get("speed") is not None:
        fields["speed"] = spoken["speed"]
    return fields


def _map(given: Any) -> dict[str, Any]:
    return convert(given, dict[str, Any], "session.audio.input.turn_detection")


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: msgspec.to_builtins(value) for name, value in fields.items()}


def _from_beta(given: dict[str, Any]) -> dict[str, Any]:
    """The beta's flat session in the general form."""
    told: dict[str, Any] = {
        name: given[name]
        for name in ("instructions", "tools", "tool_choice", "model")
        if name in given
    }
    if (most := given.get("max_response_output_tokens")) is not None:
        told["max_output_tokens"] = most
    if (modalities := given.get("modalities")) is not None:
        told["output_modalities"] = ["audio" if "audio" in modalities else "text"]
    heard: dict[str, Any] = {}
    spoken: dict[str, Any] = {}
    for name, side in (("input_audio_format", heard), ("output_audio_format", spoken)):
        if (form := given.get(name)) is not None:
            if form not in BETA_FORMATS:
                known = ", ".join(BETA_FORMATS)
                raise InvalidRequest(f"One of {known}.", param=f"session.{name}")
            side["format"] = {"type": BETA_FORMATS[form]}
    if "turn_detection" in given:
        heard["turn_detection"] = given["turn_detection"]
    if "input_audio_transcription" in given:
        heard["transcription"] = given["input_audio_transcription"]
    for name in ("voice", "speed"):
        if name in given:
            spoken[name] = given[name]
    return told | {"audio": {"input": heard, "output": spoken}}


def shown(settings: Settings, session_id: str, *, beta: bool) -> dict[str, Any]:
    """The session object."""
    tools = [msgspec.to_builtins(tool) for tool in settings.tools]
    vad = settings.vad.shown() if settings.vad else None
    transcription = msgspec.to_builtins(settings.transcription) if settings.transcription else None
    common = {
        "id": session_id,
        "object": "realtime.session",
        "model": settings.model,
        "instructions": settings.instructions,
        "tools": tools,
        "tool_choice": settings.tool_choice,
        "expires_at": 0,
    }
    if beta:
        names = {kind: name for name, kind in BETA_FORMATS.items()}
        both = ["audio", "text"]
        return common | {
            "modalities": both if settings.modality == "audio" else ["text"],
            "voice": settings.voice,
            "input_audio_format": names[settings.heard.type],
            "output_audio_format": names[settings.spoken.type],
            "input_audio_transcription": transcription,
            "turn_detection": vad,
            "speed": settings.speed,
            "max_response_output_tokens": settings.max_output_tokens,
        }
    return common | {
        "type": "realtime",
        "output_modalities": [settings.modality],
        "max_output_tokens": settings.max_output_tokens,
        "audio": {
            "input": {
                "format": settings.heard.shown(),
                "transcription": transcription,
                "noise_reduction": None,
                "turn_detection": vad,
            },
            "output": {
                "format": settings.spoken.shown(),
                "voice": settings.voice,
                "speed": settings.speed,
            },
        },
        "truncation": "auto",
        "tracing": None,
        "include": None,
        "prompt": None,
    }
