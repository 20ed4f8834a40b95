"""How risky a call is, and what the rules say of it. Pure: no clock, no store, no model."""

from __future__ import annotations

import re
from typing import cast

from sonia.control.credentials import guarded, starts
from sonia.control.interface import Plan, Policy, Tier, Verdict
from sonia.control.modes import Situation, barred, free
from sonia.control.preview import unfit
from sonia.control.rules import matches
from sonia.control.touching import Touched, escapes, touched
from sonia.types import Origin, Value

TRUSTED: frozenset[Origin] = frozenset({"owner", "model"})
PRIVATE = frozenset({"file", "memory", "tool", "unknown"})
READ: Tier = 0
UNBOUNDED: Tier = 3
MANY = 20
KINDS = ("reads", "has a small effect", "modifies", "destroys or has no bounds")

_TOOL = re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
_VERDICTS: dict[str, Verdict] = {
    "allow": "approved",
    "ask": "approval_required",
    "deny": "denied",
}
_TRUST: tuple[Verdict, str, str] = (
    "approved",
    "trust",
    "You said that it need not be asked again for a while.",
)
_HERE = Situation()


class Ruling(Value):
    """What `rule_on` found. `rule` names what decided: a rule of the policy or a built-in one.

    `steps` tells all that was weighed, in order.
    """

    verdict: Verdict
    tier: Tier
    rule: str
    reason: str
    steps: tuple[str, ...] = ()


def rule_on(plan: Plan, policy: Policy, situation: Situation = _HERE) -> Ruling:
    """Decide about `plan`. The same plan, policy and situation give the same ruling, always.

    The first rule that matches decides; without one the mode does. No rule and no trust allows
    more than reading to a call made from what came from outside, sending private data away, or
    touching credentials; and nobody is asked about what can't be shown to them.
    """
    if not _TOOL.fullmatch(plan.tool):
        return Ruling(
            verdict="denied", tier=UNBOUNDED, rule="tool-name", reason="No tool has such a name."
        )
    touches = touched(plan)
    tier, steps = weigh(plan, touches)
    grounds = " ".join(steps[1:])
    verdict, name, reason = _by_rules(plan, policy, touches, tier, situation)
    steps.append(f"{name}: {verdict}. {reason}")
    if verdict == "approval_required" and grounds:
        reason = f"{reason} {grounds}"
    if verdict != "denied" and (why := barred(tier, situation.mode)):
        verdict, name, reason = "denied", f"mode:{situation.mode}", why
        steps.append(f"{name}: {verdict}. {reason}")
    if verdict == "approved" and (caution := _caution(plan, touches, tier, situation)):
        verdict, (name, reason) = "approval_required", caution
        steps.append(f"{name}: {verdict}. {reason}")
    if verdict == "approval_required" and (why := unfit(plan.preview)):
        verdict, name, reason = "denied", "preview", why
        steps.append(f"{name}: {verdict}. {reason}")
    return Ruling(verdict=verdict, tier=tier, rule=name, reason=reason, steps=tuple(steps))


def weigh(plan: Plan, touches: Touched) -> tuple[Tier, list[str]]:
    """The tier of this very call, and what made it so. Each ground raises it by one."""
    tier = plan.tier
    steps = [f"{plan.tool} {KINDS[tier]}: tier {tier}."]
    for why in _grounds(plan, touches):
        tier = raised(tier)
        steps.append(f"{why}: tier {tier}.")
    secret = _credentials(touches)
    if secret and tier == READ:
        tier = 1
        steps.append(f"{secret}: tier {tier}.")
    return tier, steps


def _grounds(plan: Plan, touches: Touched) -> list[str]:
    if plan.tier == READ:
        return []
    grounds = []
    if outside := from_outside(plan.origins):
        grounds.append(f"It was made from what came from outside ({', '.join(outside)})")
    if any(map(escapes, touches.paths)):
        grounds.append("It leads out of the workspace")
    if secret := _credentials(touches):
        grounds.append(secret)
    for path in touches.named:
        if why := starts(path):
            grounds.append(f"It touches {path}: {why}")
            break
    if len(touches.paths) > MANY:
        grounds.append(f"It touches {len(touches.paths)} files")
    return grounds


def _credentials(touches: Touched) -> str | None:
    for path in touches.paths:
        if why := guarded(path):
            return f"It touches {path}: {why}"
    return None


def _caution(
    plan: Plan, touches: Touched, tier: Tier, situation: Situation
) -> tuple[str, str] | None:
    """Why nothing but a person can allow this; None where a rule can."""
    outside = from_outside(plan.origins)
    if outside and tier > READ:
        return (
            f"outside:{'+'.join(outside)}",
            f"It was made from what came from outside ({', '.join(outside)}).",
        )
    if plan.outbound and (plan.private or set(outside) & PRIVATE):
        return "private-data", "It could send away what is private: that came into this turn."
    if plan.outbound and outside:
        return "outbound", f"What came from outside ({', '.join(outside)}) may want it sent."
    if secret := _credentials(touches):
        return "credentials", f"{secret}."
    if situation.quiet and tier > READ:
        return "quiet-hours", "In quiet hours nothing is done unasked."
    return None


def from_outside(origins: tuple[Origin, ...]) -> tuple[str, ...]:
    """The origins that are neither the owner nor the model, sorted; none at all is `unknown`."""
    return tuple(sorted(set(origins) - TRUSTED)) if origins else ("unknown",)


def raised(tier: Tier) -> Tier:
    """One tier up. Reading stays reading."""
    return tier if tier in (READ, UNBOUNDED) else cast(Tier, tier + 1)


def trustable(plan: Plan, tier: Tier) -> bool:
    """Whether trust that was given may cover this call."""
    return tier < UNBOUNDED and not plan.unattended and not from_outside(plan.origins)


def _by_rules(
    plan: Plan, policy: Policy, touches: Touched, tier: Tier, situation: Situation
) -> tuple[Verdict, str, str]:
    for source, rules in (("file", policy.file_rules), ("policy", policy.rules)):
        for place, rule in enumerate(rules):
            if matches(rule, plan, touches, situation.mode):
                said = rule.reason or f"A rule for {rule.tool} says {rule.verdict}."
                verdict = _VERDICTS[rule.verdict]
                if verdict == "approval_required" and situation.trusted:
                    return _TRUST
                return verdict, f"{source}:{place}:{rule.tool}", said
    if situation.trusted:
        return _TRUST
    if free(plan, tier, situation.mode):
        if tier == READ:
            return "approved", "tier:0", f"{plan.tool} only reads."
        return "approved", f"mode:{situation.mode}", f"{situation.mode} mode allows it unasked."
    return "approval_required", f"tier:{tier}", f"{plan.tool} {KINDS[plan.tier]}."
