"""How memory's values are kept in columns."""

from __future__ import annotations

import datetime as dt
import hashlib
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


def to_json(data: dict[str, Any]) -> str:
    """JSON text of a checked value."""
    return msgspec.json.encode(data).decode()


def from_json(text: str) -> dict[str, Any]:
    """The inverse of `to_json`."""
    return msgspec.json.decode(text, type=dict[str, Any])


def likeness(content: str) -> bytes:
    """Equal for contents that differ only in case, spaces and closing punctuation."""
    folded = " ".join(content.casefold().split()).rstrip(".!? ")
    return hashlib.blake2b(folded.encode(), digest_size=16).digest()
