"""A provider that costs next to nothing: one canned answer, whole or as a stream.

    python -m benchmarks.relay_upstream [--chunks 20]

Prints its port, then speaks just enough HTTP/1.1 for any client. It is what a relay adds to.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
from typing import Any

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_BASE = {"id": "chatcmpl-mock", "created": 1_700_000_000, "model": "mock"}
_USAGE = {"prompt_tokens": 12, "completion_tokens": 20, "total_tokens": 32}
_WORD = "word "


def whole_answer(words: int) -> bytes:
    """Response bytes of a plain completion."""
    message = {"role": "assistant", "content": _WORD * words}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = {**_BASE, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    data = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
        len(data),
        data,
    )


def streamed_answer(words: int) -> list[bytes]:
    """Pieces of a streamed completion, the first with the head."""
    deltas: list[tuple[dict[str, Any], str | None]] = [({"role": "assistant", "content": ""}, None)]
    deltas += [({"content": _WORD}, None)] * words
    deltas += [({}, "stop")]
    chunks = [
        {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}], "usage": None}
        for delta, reason in deltas
    ]
    chunks.append({"choices": [], "usage": _USAGE})
    events = [
        b"data: %s\n\n" % json.dumps({**_BASE, "object": "chat.completion.chunk", **chunk}).encode()
        for chunk in chunks
    ]
    pieces = [_framed(event) for event in [*events, b"data: [DONE]\n\n"]]
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    return [head + pieces[0], *pieces[1:-1], pieces[-1] + b"0\r\n\r\n"]


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Upstream(asyncio.Protocol):
    """One connection, kept open."""

    def __init__(self, whole: bytes, streamed: list[bytes]) -> None:
        self._whole = whole
        self._streamed = streamed
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._received[:end])
            after = end + 4 + (int(found[1]) if found else 0)
            if len(self._received) < after:
                return
            body, self._received = self._received[end + 4 : after], self._received[after:]
            self._answer(b'"stream":true' in body or b'"stream": true' in body)

    def _answer(self, stream: bool) -> None:
        if not stream:
            self._transport.write(self._whole)
            return
        for piece in self._streamed:
            if not self._transport.is_closing():
                self._transport.write(piece)


async def serve(words: int) -> None:
    """Until killed."""
    whole, streamed = whole_answer(words), streamed_answer(words)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Upstream(whole, streamed), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunks", type=int, default=20, help="words of an answer, one a chunk")
    asyncio.run(serve(parser.parse_args().chunks))
