"""How memory's values are kept in columns."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
MICROSECOND = dt.timedelta(microseconds=1)


def micros(moment: dt.datetime) -> int:
    """Microseconds since 1970 in UTC; exact."""
    return (moment - EPOCH) // MICROSECOND


def moment(micros_utc: int) -> dt.datetime:
    """The inverse of `micros`."""
    return EPOCH + micros_utc * MICROSECOND


def to_json(data: Mapping[Any, Any] | Sequence[Any]) -> str:
    """JSON text of a checked value."""
    return msgspec.json.encode(data).decode()


def from_json(text: str) -> dict[str, Any]:
    """The inverse of `to_json`."""
    return msgspec.json.decode(text, type=dict[str, Any])


def maybe_micros(moment: dt.datetime | None) -> int | None:
    """`micros`, or null."""
    return None if moment is None else micros(moment)


def maybe_moment(micros_utc: int | None) -> dt.datetime | None:
    """`moment`, or none."""
    return None if micros_utc is None else moment(micros_utc)


def digest(row: Sequence[Any]) -> bytes:
    """SHA-256 of a row's columns as they are stored; 32 bytes.

    Of their JSON: unambiguous, and floats in their shortest exact form.
    """
    return hashlib.sha256(msgspec.json.encode(row)).digest()


def likeness(content: str) -> bytes:
    """Equal for contents that differ only in case, spaces and closing punctuation."""
    folded = " ".join(content.casefold().split()).rstrip(".!? ")
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()
