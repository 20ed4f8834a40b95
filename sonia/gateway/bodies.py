"""Bodies of foreign protocols: decoded into structs, every mistake naming its parameter.

Fields that nobody here knows are passed over, as SDKs send new ones before servers know them;
a known field of a wrong type is an error.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from sonia.errors import InvalidRequest
from sonia.types import ToolCall

T = TypeVar("T")

_WHERE = re.compile(r"^(.*?)(?: - at `(?:key in )?\$\.?(.*?)`)?$", re.DOTALL)
_MISSING = re.compile(r"missing required field `([^`]+)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Raises `InvalidRequest` with the parameter's path: `messages[0].content`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wrong(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            f"The body could not be read as JSON: {error}. Send one JSON object in UTF-8."
        ) from error


def convert(value: Any, kind: type[T], where: str) -> T:
    """A part of a body as a struct. Raises `InvalidRequest`."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise wrong(error, where) from error


def wrong(error: msgspec.ValidationError, where: str = "") -> InvalidRequest:
    """The same mistake as ours, with `param`."""
    match = _WHERE.match(str(error))
    told, path = (match[1], match[2] or "") if match else (str(error), "")
    parts = [part for part in (where, path) if part]
    if missing := _MISSING.search(told):
        parts.append(missing[1])
        told = f"Missing required parameter: '{_joined(parts)}'."
    param = _joined(parts)
    return InvalidRequest(
        told if told.startswith("Missing") else f"Invalid value for '{param or 'body'}': {told}.",
        param=param or None,
    )


def _joined(parts: list[str]) -> str:
    return ".".join(parts).replace(".[", "[")


def called(id: str, name: str, arguments: str, where: str) -> ToolCall:
    """A call of the conversation so far. Raises `InvalidRequest` for arguments of no object."""
    try:
        decoded = msgspec.json.decode(arguments or "{}")
    except msgspec.DecodeError:
        decoded = None
    if not isinstance(decoded, dict):
        raise InvalidRequest(
            f"'{where}' has to be a JSON object, written as a string.", param=where
        )
    return ToolCall(id=id, name=name, arguments=decoded)
