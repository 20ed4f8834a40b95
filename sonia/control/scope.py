"""The canonical form of a call, and its hash: the one thing that a decision allows.

Two calls have the same hash when, and only when, they are the same: JSON with sorted keys,
no spaces, UTF-8 without normalisation, numbers in their shortest exact form. What JSON can't
say exactly (NaN, infinities, lone surrogates, keys that are not text) is refused, since two
different values would be written alike.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any

import msgspec

from sonia.control.interface import Plan
from sonia.errors import InvalidRequest
from sonia.types import Value

_encoder = msgspec.json.Encoder(order="sorted")


class _Scope(Value):
    """What is bound. Who asked and what it looks like are not: they don't change what runs."""

    arguments: dict[str, Any]
    digests: dict[str, str]
    policy_version: int
    tool: str
    tool_digest: str
    working_directory: str


def canonical(value: Any) -> bytes:
    """The one JSON text of `value`. Raises `InvalidRequest` for what JSON can't say exactly."""
    try:
        _exact(value)
        return _encoder.encode(value)
    except (TypeError, UnicodeEncodeError, OverflowError) as error:
        raise InvalidRequest(f"This has no exact JSON form: {error}.") from error
    except RecursionError as error:
        raise InvalidRequest("This is nested too deeply. Flatten it.") from error


def digest(value: Any) -> str:
    """SHA-256 of the canonical form, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical(value)).hexdigest()


def scope_hash(plan: Plan, policy_version: int) -> str:
    """The hash that a decision about `plan` is bound to. Raises `InvalidRequest`."""
    return digest(
        msgspec.structs.asdict(
            _Scope(
                arguments=plan.arguments,
                digests=plan.digests,
                policy_version=policy_version,
                tool=plan.tool,
                tool_digest=plan.tool_digest,
                working_directory=plan.working_directory,
            )
        )
    )


def _exact(value: Any) -> None:
    match value:
        case None | bool() | int() | str():
            return
        case float():
            if not math.isfinite(value):
                raise TypeError(f"{value} is not a JSON number")
        case list() | tuple():
            for item in value:
                _exact(item)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise TypeError(f"the key {key!r} is not text")
                _exact(item)
        case _:
            raise TypeError(f"{type(value).__name__} is not a JSON type")
