"""What a route takes in that is not a small JSON document: an upload, streamed to it."""

from __future__ import annotations

from sonia.types import Value


class Intake(Value):
    """What one path accepts. The front door enforces it; the body is handed on as it arrives.

    `media_types` are lower-case and without parameters. A body over `max_body_bytes`, or one
    that pauses for longer than `idle_timeout_s`, is refused.
    """

    media_types: tuple[str, ...]
    max_body_bytes: int
    idle_timeout_s: float = 15.0
