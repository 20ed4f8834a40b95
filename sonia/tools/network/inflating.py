"""Bodies, decoded no further than a limit: a few bytes of gzip can stand for gigabytes."""

from __future__ import annotations

import zlib

from sonia.errors import UpstreamError

ENCODING = "gzip"
_GZIP = zlib.MAX_WBITS + 16


class Body:
    """Takes a body piece by piece and keeps at most `limit` decoded bytes of it.

    `truncated` says that there was more. Raises `UpstreamError` for an encoding that was not
    asked for, or a broken one.
    """

    def __init__(self, encoding: str, limit: int) -> None:
        self.content = bytearray()
        self.truncated = False
        self._limit = limit
        encoding = encoding.strip().lower() or "identity"
        if encoding not in ("identity", "gzip", "x-gzip"):
            raise UpstreamError(
                f"The answer is encoded as '{encoding[:40]}', which was not asked for."
            )
        self._inflate = None if encoding == "identity" else zlib.decompressobj(_GZIP)

    def feed(self, piece: bytes) -> bool:
        """Take the next piece; return whether more is wanted."""
        if self._inflate is None:
            self._keep(piece)
        else:
            try:
                self._decode(piece)
            except zlib.error as error:
                raise UpstreamError("The answer's compression is broken.") from error
        return not self.truncated

    def _decode(self, piece: bytes) -> None:
        while piece and not self.truncated and self._inflate is not None:
            room = self._limit + 1 - len(self.content)
            self._keep(self._inflate.decompress(piece, room))
            piece = self._inflate.unconsumed_tail
            if self._inflate.eof:  # another member may follow
                piece = self._inflate.unused_data
                self._inflate = zlib.decompressobj(_GZIP)

    def _keep(self, content: bytes) -> None:
        room = self._limit - len(self.content)
        self.content += content[:room]
        self.truncated = self.truncated or len(content) > room
