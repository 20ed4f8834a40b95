"""Sound files: any common format to samples, and samples to what a client asked for.

FFmpeg (through PyAV) does the work. It is told which formats it may read and that it may open
nothing else: a playlist in an upload would otherwise have it fetch addresses or read files.
"""

from __future__ import annotations

import struct
from io import BytesIO
from typing import IO, Any

import numpy as np

from sonia.voice.speech import EAR_RATE, VOICE_RATE, AudioTooLong, NotAudio, Samples

READABLE = "aac,aiff,amr,asf,caf,flac,matroska,webm,mov,mp4,m4a,mp3,mpeg,mpegts,ogg,opus,wav,w64"
# What may be asked for: content type, container and codec of FFmpeg, samples a second.
FORMATS: dict[str, tuple[str, str, str, int]] = {
    "mp3": ("audio/mpeg", "mp3", "libmp3lame", 24_000),
    "opus": ("audio/ogg", "ogg", "libopus", 48_000),
    "aac": ("audio/aac", "adts", "aac", 24_000),
    "flac": ("audio/flac", "flac", "flac", 24_000),
    "wav": ("audio/wav", "", "", 24_000),
    "pcm": ("audio/pcm", "", "", 24_000),
}


def decoded(file: IO[bytes], *, longest_s: float) -> Samples:
    """Read a sound file as 16,000 mono samples a second. Blocks.

    Raises `NotAudio`, `AudioTooLong`; what is over `longest_s` is not decoded.
    """
    import av

    chunks: list[Any] = []
    most = int(longest_s * EAR_RATE)
    size = 0
    options = {"format_whitelist": READABLE, "protocol_whitelist": "none"}
    try:
        with av.open(file, mode="r", options=options, metadata_errors="ignore") as container:
            if not container.streams.audio:
                raise NotAudio("The file holds no sound.")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=EAR_RATE)
            for frame in _frames(container):
                for ready in resampler.resample(frame):
                    chunks.append(ready.to_ndarray().ravel())
                    size += chunks[-1].size
                if size > most:
                    raise AudioTooLong(
                        f"The sound lasts longer than {longest_s:g} s. Send it in parts.",
                        limit_s=longest_s,
                    )
            if chunks:
                chunks.extend(ready.to_ndarray().ravel() for ready in resampler.resample(None))
    except (av.FFmpegError, ValueError, OSError) as error:
        raise NotAudio(
            "The file is no sound that can be read. Send wav, mp3, m4a, ogg, opus, flac or webm."
        ) from error
    if not chunks:
        raise NotAudio("There is no sound in the file.")
    return np.concatenate(chunks).astype(np.float32, copy=False)


def _frames(container: Any) -> Any:
    import av

    stream = container.streams.audio[0]
    broken = 0
    for packet in container.demux(stream):
        try:
            frames = packet.decode()
        except av.InvalidDataError:  # one damaged packet is a click, not the end
            broken += 1
            if broken > 100:
                raise
            continue
        for frame in frames:
            frame.pts = None  # gaps and jumps of the clock are not sound
            yield frame


class Encoder:
    """Samples at 24,000 a second to bytes of one format, piece by piece. Blocks."""

    def __init__(self, name: str) -> None:
        """`name` is a key of `FORMATS`."""
        _, container, codec, rate = FORMATS[name]
        self._header = wav_header() if name == "wav" else b""
        self._container: Any = None
        if container:
            import av

            self._file = _Pipe()
            self._container = av.open(self._file, mode="w", format=container)
            self._stream: Any = self._container.add_stream(codec, rate=rate)
            self._stream.layout = "mono"

    def feed(self, samples: Samples) -> bytes:
        """What these samples add; may be empty."""
        data = (np.clip(samples, -1.0, 1.0) * 32767).astype("<i2")
        if self._container is None:
            head, self._header = self._header, b""
            return head + data.tobytes()
        import av

        frame = av.AudioFrame.from_ndarray(data[None, :], format="s16", layout="mono")
        frame.sample_rate = VOICE_RATE
        self._container.mux(self._stream.encode(frame))
        return self._file.taken()

    def end(self) -> bytes:
        """What is left."""
        if self._container is None:
            head, self._header = self._header, b""
            return head
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.taken()


class _Pipe(BytesIO):
    """A file that only goes forward."""

    def seekable(self) -> bool:
        return False

    def taken(self) -> bytes:
        """What was written since the last time."""
        data = self.getvalue()
        self.truncate(0)
        super().seek(0)
        return data


def wav_header() -> bytes:
    """Of a stream whose length isn't known yet: 24 kHz, 16-bit, mono."""
    unknown = 0xFFFFFFFF
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", unknown, b"WAVE", b"fmt ", 16, 1, 1),
        *(VOICE_RATE, VOICE_RATE * 2, 2, 16, b"data", unknown),
    )


def stretched(samples: Samples, tempo: float) -> Samples:
    """The same sound, `tempo` times as fast, at the same pitch. Blocks."""
    import av
    from av.filter import Graph

    graph = Graph()
    source = graph.add_abuffer(format="flt", sample_rate=VOICE_RATE, layout="mono", channels=1)
    last: Any = source
    for factor in _factors(tempo):
        step = graph.add("atempo", f"{factor:.4f}")
        last.link_to(step)
        last = step
    sink = graph.add("abuffersink")
    last.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(samples[None, :], format="flt", layout="mono")
    frame.sample_rate = VOICE_RATE
    graph.push(frame)
    graph.push(None)
    parts: list[Any] = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray().ravel())
        except (av.EOFError, av.BlockingIOError):
            break
    return np.concatenate(parts).astype(np.float32) if parts else samples[:0]


def _factors(tempo: float) -> list[float]:
    """`atempo` slows down to a half at most; more takes several."""
    factors = []
    while tempo < 0.5:
        factors.append(0.5)
        tempo /= 0.5
    return [*factors, tempo]
