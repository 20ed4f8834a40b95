"""How Sonia is set just now, and what that changes of what needs no question."""

from __future__ import annotations

import datetime as dt
from typing import get_args

from sonia.control.interface import Mode, Plan, Tier
from sonia.types import Value

MODES: tuple[Mode, ...] = get_args(Mode)
USUAL: Mode = "conversation"

# The highest tier that needs no question.
FREE: dict[Mode, Tier] = {
    "conversation": 0,
    "operator": 1,
    "build": 1,
    "diagnostic": 0,
    "dictation": 0,
}
BUILDING = "file.write"
BUILDING_TIER: Tier = 2


class Situation(Value):
    """What a decision depends on besides the plan and the rules.

    `quiet` is true in quiet hours, `trusted` when a person gave trust that covers the call.
    """

    mode: Mode = USUAL
    quiet: bool = False
    trusted: bool = False


def barred(tier: Tier, mode: Mode) -> str | None:
    """Why a mode keeps such a call from running, whatever rules and people say."""
    if mode == "dictation":
        return "In dictation mode no tool runs."
    if mode == "diagnostic" and tier > 0:
        return "In diagnostic mode Sonia only looks."
    return None


def free(plan: Plan, tier: Tier, mode: Mode) -> bool:
    """Whether it needs no question where no rule speaks. Unattended work has the usual mode's
    freedom, whichever is set.
    """
    if plan.unattended:
        mode = USUAL
    builds = mode == "build" and plan.tool == BUILDING
    return tier <= (BUILDING_TIER if builds else FREE[mode])


def is_quiet(hours: str, at: dt.datetime) -> bool:
    """Whether `at`, on this machine's clock, is within `hours` (`22:00-07:00`; "" is never)."""
    if not hours:
        return False
    begin, end = (dt.time.fromisoformat(part) for part in hours.split("-"))
    local = at.astimezone().time()
    return begin <= local < end if begin <= end else local >= begin or local < end
