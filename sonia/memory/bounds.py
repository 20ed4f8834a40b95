"""What memory accepts. Everything here raises `InvalidRequest` that says what would be right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from sonia.errors import InvalidRequest
from sonia.types import Value

MAX_METADATA_BYTES = 16_384
MAX_METADATA_DEPTH = 16
MAX_EVENT_BYTES = 262_144
MAX_LIMIT = 1000
MAX_NUMBER = 2**53
EARLIEST = dt.datetime(1, 1, 2, tzinfo=dt.UTC)
LATEST = dt.datetime(9999, 12, 30, tzinfo=dt.UTC)
RESERVED_KINDS = ("turn.", "memory.", "session.")

V = TypeVar("V", bound=Value)
MAX_AT_ONCE = 5_000


def checked(value: V) -> V:
    """Return `value` as if it had come over the wire: its fields' types and bounds hold.

    Text that is not Unicode (lone surrogates) and data that is not JSON are refused.
    """
    try:
        return msgspec.json.decode(msgspec.json.encode(value), type=type(value))
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"{error}.") from error
    except UnicodeEncodeError as error:
        raise InvalidRequest("Text must be valid Unicode, without lone surrogates.") from error
    except RecursionError as error:
        raise InvalidRequest("This is nested too deeply. Flatten it.") from error
    except (TypeError, OverflowError) as error:
        raise InvalidRequest(f"Only JSON can be stored: {error}.") from error


def checked_many(values: Sequence[V], kind: type[V]) -> list[V]:
    """`checked` for 1 to 5000 of one kind."""
    if not 1 <= len(values) <= MAX_AT_ONCE:
        raise InvalidRequest(f"Give 1 to {MAX_AT_ONCE} at once, not {len(values)}.")
    try:
        return msgspec.json.decode(msgspec.json.encode(values), type=list[kind])  # type: ignore[valid-type]
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError, TypeError, OverflowError):
        return [checked(value) for value in values]  # which says what is wrong


def check_metadata(metadata: dict[str, Any], field: str = "metadata") -> None:
    """At most 16 KiB as JSON and 16 levels deep."""
    size = len(msgspec.json.encode(metadata))
    if size > MAX_METADATA_BYTES:
        raise InvalidRequest(
            f"{field} is {size} bytes as JSON; at most {MAX_METADATA_BYTES} are kept.",
            pointer=f"/{field}",
            limit_bytes=MAX_METADATA_BYTES,
        )
    if depth(metadata) > MAX_METADATA_DEPTH:
        raise InvalidRequest(
            f"{field} is nested deeper than {MAX_METADATA_DEPTH} levels. Flatten it.",
            pointer=f"/{field}",
            limit_levels=MAX_METADATA_DEPTH,
        )


def check_event(kind: str, data: dict[str, Any]) -> None:
    """A kind of the caller's own, and at most 256 KiB of data."""
    if kind.startswith(RESERVED_KINDS):
        raise InvalidRequest(
            f"Kinds beginning with {', '.join(RESERVED_KINDS)} are written by Sonia alone. "
            f"Name this one otherwise, for example app.{kind}.",
            pointer="/kind",
        )
    if (size := len(msgspec.json.encode(data))) > MAX_EVENT_BYTES:
        raise InvalidRequest(
            f"data is {size} bytes as JSON; at most {MAX_EVENT_BYTES} are kept.",
            pointer="/data",
            limit_bytes=MAX_EVENT_BYTES,
        )


def check_moment(moment: dt.datetime | None, field: str) -> None:
    """With an offset, and within the years that can be kept."""
    if moment is None:
        return
    if moment.tzinfo is None:
        raise InvalidRequest(
            f"{field} has no offset. Write it as 2026-02-08T09:30:00Z.", pointer=f"/{field}"
        )
    if not EARLIEST <= moment <= LATEST:
        raise InvalidRequest(f"{field} must lie in the years 1 to 9999.", pointer=f"/{field}")


def check_period(valid_from: dt.datetime | None, valid_to: dt.datetime | None) -> None:
    """Two moments, in order."""
    check_moment(valid_from, "valid_from")
    check_moment(valid_to, "valid_to")
    if valid_from is not None and valid_to is not None and valid_to < valid_from:
        raise InvalidRequest("valid_to lies before valid_from.", pointer="/valid_to")


def check_limit(limit: int) -> None:
    """From 1 to 1000."""
    if not 1 <= limit <= MAX_LIMIT:
        raise InvalidRequest(f"limit must be from 1 to {MAX_LIMIT}.", pointer="/limit")


def check_after(number: int) -> None:
    """A number of the ledger, or 0."""
    if not 0 <= number <= MAX_NUMBER:
        raise InvalidRequest("after must be 0 or the number of an event.", pointer="/after")


def depth(value: Any) -> int:
    """Levels of objects and lists; 0 for a plain value."""
    levels, layer = 0, [value]
    while layer := [item for item in layer if isinstance(item, dict | list)]:
        levels += 1
        layer = [
            inner for item in layer for inner in (item.values() if isinstance(item, dict) else item)
        ]
    return levels


def checked_text(text: str, field: str) -> str:
    """Text that can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{field} must be valid Unicode.", pointer=f"/{field}") from error
    return text
