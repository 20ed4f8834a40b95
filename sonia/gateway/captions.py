"""Transcripts as captions, and what languages are called."""

from __future__ import annotations

from sonia.voice import Transcript

# ISO 639-1 (and the few others that Whisper knows) to the English name, as OpenAI answers it.


def subrip(transcript: Transcript) -> str:
    """SRT: numbered captions, times with a comma."""
    return "".join(
        f"{number}\n{clock(one.start, ',')} --> {clock(one.end, ',')}\n{one.text}\n\n"
        for number, one in enumerate(transcript.segments, 1)
    )


def web_vtt(transcript: Transcript) -> str:
    """WebVTT; an arrow in what was said would end a caption, so it is spelled as one sign."""
    captions = (
        f"{clock(one.start, '.')} --> {clock(one.end, '.')}\n{one.text.replace('-->', '→')}\n\n"
        for one in transcript.segments
    )
    return "WEBVTT\n\n" + "".join(captions)


def clock(seconds: float, point: str) -> str:
    """`hh:mm:ss` and milliseconds."""
    ms = round(seconds * 1000)
    return f"{ms // 3_600_000:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}{point}{ms % 1000:03}"
