"""Values that cross module lines. Frozen, encodable, without behaviour."""

from __future__ import annotations

import datetime as dt
import os
import secrets
from typing import Any, Literal, NewType, dataclass_transform

import msgspec

MemoryId = NewType("MemoryId", str)
ApprovalId = NewType("ApprovalId", str)
UserId = NewType("UserId", str)

Role = Literal["system", "user", "assistant", "tool"]
Origin = Literal["owner", "model", "web", "file", "memory", "tool", "speaker"]

DEFAULT_USER = UserId("owner")


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _ValueMeta(msgspec.StructMeta):
    """Tells type checkers what `Value` hands down to its subclasses."""


class Value(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, metaclass=_ValueMeta
):
    """Base of every value on the wire: immutable, and an unknown field is an error."""


class ToolCall(Value):
    """A model's wish to use a tool. `arguments` is the decoded JSON object."""

    id: str
    name: str
    arguments: dict[str, Any]


class Message(Value):
    """One entry of a conversation, oldest first in any list of them.

    `tool_call_id` names the call that a `tool` message answers. `images` are shown after the
    text: `https://` addresses or `data:image/…;base64,…`.
    """

    role: Role
    content: str
    images: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class ToolSpec(Value):
    """What a model is told of a tool. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: dict[str, Any]


class Usage(Value):
    """Tokens of one model call.

    Of the prompt's, `cached_tokens` were not evaluated again and `cache_write_tokens` were kept
    for next time; of the completion's, `reasoning_tokens` were thought and not shown.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


class Damage(Value):
    """A row of the table `place` that is not what was written. `version` 0 is the row itself."""

    place: str
    number: int
    why: str
    version: int = 0


class Integrity(Value):
    """What a check of the database found. `faults` are SQLite's own.

    `rows` counts those that were looked at, by table; `damaged` names the first thousand of
    `damaged_rows`.
    """

    ok: bool
    faults: tuple[str, ...] = ()
    rows: dict[str, int] = {}
    damaged: tuple[Damage, ...] = ()
    damaged_rows: int = 0
    took_ms: float = 0.0


ID_BYTES = 16
_POOL_IDS = 256  # one system call for so many
_pool: list[str] = []


def random_hex() -> str:
    """128 bits of the system's randomness as 32 digits, drawn many at a time."""
    while True:
        try:
            return _pool.pop()  # one step, whichever thread takes it
        except IndexError:
            drawn = secrets.token_bytes(ID_BYTES * _POOL_IDS).hex()
            _pool.extend(
                drawn[start : start + 2 * ID_BYTES] for start in range(0, len(drawn), 2 * ID_BYTES)
            )


def _forget_pool() -> None:
    _pool.clear()


if hasattr(os, "register_at_fork"):  # a child must not draw what its parent draws
    os.register_at_fork(after_in_child=_forget_pool)


def new_id(prefix: str) -> str:
    """An opaque id with 128 random bits: `new_id("mem")` → `mem_…`."""
    return f"{prefix}_{random_hex()}"


def new_ids(prefix: str, count: int) -> list[str]:
    """As many ids like those of `new_id`, of one draw of random bits."""
    bits = secrets.token_hex(16 * count)
    return [f"{prefix}_{bits[at : at + 32]}" for at in range(0, len(bits), 32)]


def now() -> dt.datetime:
    """The wall clock in UTC."""
    return dt.datetime.now(dt.UTC)


def rfc3339(moment: dt.datetime) -> str:
    """`2026-02-08T09:30:00.000Z`: UTC, milliseconds, `Z`."""
    text = moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")
    return text.removesuffix("+00:00") + "Z"


class HeldIn(Value):
    """A backup that may still hold what was forgotten, and when it makes room for newer ones.

    `until` is null where none are made by themselves. Restoring one forgets in it first.
    """

    name: str
    until: dt.datetime | None
