"""A form with a file in it, as it goes over the wire (RFC 7578)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import IO

from sonia.types import new_id

CHUNK_BYTES = 256 * 1024


def form(
    fields: Mapping[str, str],
    file: IO[bytes],
    name: str,
    told: Callable[[int], None] = lambda _: None,
) -> tuple[dict[str, str], Iterator[bytes]]:
    """Headers and body. `told` hears how many bytes of the file went out."""
    boundary = new_id("form")
    head = b"".join(_head(fields, name, boundary))
    tail = f"\r\n--{boundary}--\r\n".encode()
    size = os.fstat(file.fileno()).st_size
    headers = {
        "Content-Type": f"multipart/form-data; boundary={boundary}",
        "Content-Length": str(len(head) + size + len(tail)),
    }
    return headers, _body(head, file, size, tail, told)


def _head(fields: Mapping[str, str], name: str, boundary: str) -> Iterator[bytes]:
    for field, value in fields.items():
        start = f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n'
        yield f"{start}{value}\r\n".encode()
    plain = "".join("_" if sign in '"\\%' or not sign.isprintable() else sign for sign in name)
    start = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{plain}"\r\n'
    yield f"{start}Content-Type: application/octet-stream\r\n\r\n".encode()


def _body(
    head: bytes, file: IO[bytes], size: int, tail: bytes, told: Callable[[int], None]
) -> Iterator[bytes]:
    """Exactly as long as was said, even if the file grows or shrinks meanwhile."""
    yield head
    sent = 0
    while sent < size:
        chunk = file.read(min(CHUNK_BYTES, size - sent)) or bytes(min(CHUNK_BYTES, size - sent))
        yield chunk
        sent += len(chunk)
        told(sent)
    yield tail
