"""Opus (RFC 6716) packet by packet, as a socket carries it: one packet a message, no Ogg around."""

from __future__ import annotations

from typing import Any

import numpy as np

from sonia.errors import InvalidRequest
from sonia.voice.speech import Samples

DECODED_HZ = 48_000  # whatever rate a packet was made from
PACKET_MS = 20
BITS_PER_S = 32_000
LARGEST_BYTES = 61_298  # 48 frames of 1,275 bytes and their lengths; no packet is larger


class OpusEncoder:
    """Mono samples at 8, 12, 16, 24 or 48 kHz to packets of `PACKET_MS`."""

    def __init__(self, rate_hz: int) -> None:
        import av

        self._rate = rate_hz
        self._size = rate_hz * PACKET_MS // 1000
        self._rest = np.empty(0, np.float32)
        self._codec: Any = av.CodecContext.create("libopus", "w")
        self._codec.sample_rate, self._codec.layout, self._codec.format = rate_hz, "mono", "flt"
        self._codec.bit_rate = BITS_PER_S
        self._codec.options = {"application": "voip", "frame_duration": str(PACKET_MS)}

    def feed(self, samples: Samples) -> list[bytes]:
        """The packets that are full; what is left comes with the next."""
        import av

        whole = np.concatenate([self._rest, samples])
        full = len(whole) // self._size * self._size
        self._rest = whole[full:]
        packets: list[bytes] = []
        for at in range(0, full, self._size):
            piece = np.ascontiguousarray(whole[None, at : at + self._size])
            frame = av.AudioFrame.from_ndarray(piece, format="flt", layout="mono")
            frame.sample_rate = self._rate
            packets += [bytes(packet) for packet in self._codec.encode(frame)]
        return packets


class OpusDecoder:
    """Packets of one stream, in order, to mono samples at `DECODED_HZ`."""

    def __init__(self) -> None:
        import av

        self._codec: Any = av.CodecContext.create("libopus", "r")
        self._codec.sample_rate, self._codec.layout = DECODED_HZ, "mono"

    def feed(self, packet: bytes) -> Samples:
        """One packet's sound. Raises `InvalidRequest`; the next packet may be right again."""
        import av

        if not 0 < len(packet) <= LARGEST_BYTES:
            raise InvalidRequest("Sound is one Opus packet a message here, and this is none.")
        try:
            frames = [frame.to_ndarray() for frame in self._codec.decode(av.Packet(packet))]
        except (av.FFmpegError, ValueError) as error:
            raise InvalidRequest(
                "Not an Opus packet. Send each packet as it is in a message of its own, without "
                "Ogg or WebM around it."
            ) from error
        if not frames:
            return np.empty(0, np.float32)
        sound = np.concatenate([frame.reshape(-1) for frame in frames])
        return (sound / np.float32(32_768)).astype(np.float32)
