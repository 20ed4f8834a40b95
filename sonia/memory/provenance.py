"""Whose word a memory is. Trust only ever goes down: no rule here raises an origin."""

from __future__ import annotations

from collections.abc import Iterable

from sonia.types import Origin

# From the most trusted to the least. What was recalled has lost where it came from.
TRUST: tuple[Origin, ...] = ("owner", "model", "speaker", "memory", "tool", "file", "web")


def least_trusted(origins: Iterable[Origin]) -> Origin:
    """The origin of what was made from all of these; nothing at all is nobody's word."""
    return max(origins, key=TRUST.index, default=TRUST[-1])


def may_replace(new: Origin, old: Origin) -> bool:
    """Whether `new` may contradict `old`: only what is trusted as much or more."""
    return TRUST.index(new) <= TRUST.index(old)
