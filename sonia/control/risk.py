"""How risky a call is, and what the rules say of it. Pure: no clock, no store, no model."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

from sonia.control.interface import Plan, Policy, Rule, Tier, Verdict
from sonia.control.preview import unfit
from sonia.errors import InvalidRequest
from sonia.types import Origin, Value

TRUSTED: frozenset[Origin] = frozenset({"owner", "model"})
READ: Tier = 0
UNBOUNDED: Tier = 3
KINDS = ("reads", "has a small effect", "modifies", "destroys or has no bounds")

_TOOL = re.compile(r"[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*")
_PATTERN = re.compile(r"\*|[a-z][a-z0-9_-]*(?:\.[a-z0-9_-]+)*(?:\.?\*)?")


class Ruling(Value):
    """What `rule_on` found. `rule` names what decided: a rule of the policy or a built-in one."""

    verdict: Verdict
    tier: Tier
    rule: str
    reason: str


def rule_on(plan: Plan, policy: Policy) -> Ruling:
    """Decide about `plan`. The same plan and policy give the same ruling, always.

    The first rule that matches the tool decides; without one a tool that only reads is
    allowed and any other asks. No rule allows more than reading to a call made from what
    came from outside, and nobody is asked about what can't be shown to them.
    """
    outside = from_outside(plan.origins)
    tier = raised(plan.tier) if outside else plan.tier
    if not _TOOL.fullmatch(plan.tool):
        return Ruling(
            verdict="denied", tier=tier, rule="tool-name", reason="No tool has such a name."
        )
    verdict, name, reason = _by_rules(plan, policy.rules)
    if verdict == "approved" and tier > READ and outside:
        verdict, name = "approval_required", f"outside:{'+'.join(outside)}"
        reason = f"It was made from what came from outside ({', '.join(outside)})."
    if verdict == "approval_required" and (why := unfit(plan.preview)):
        verdict, name, reason = "denied", "preview", why
    return Ruling(verdict=verdict, tier=tier, rule=name, reason=reason)


def from_outside(origins: tuple[Origin, ...]) -> tuple[str, ...]:
    """The origins that are neither the owner nor the model, sorted; none at all is `unknown`."""
    return tuple(sorted(set(origins) - TRUSTED)) if origins else ("unknown",)


def raised(tier: Tier) -> Tier:
    """One tier up, for what came from outside. Reading stays reading."""
    return tier if tier in (READ, UNBOUNDED) else cast(Tier, tier + 1)


def check_rules(rules: Iterable[Rule]) -> None:
    """Refuse a rule that could never match. Raises `InvalidRequest`."""
    for place, rule in enumerate(rules):
        if not _PATTERN.fullmatch(rule.tool):
            raise InvalidRequest(
                f"rules[{place}].tool: {rule.tool!r} can't match a tool. Write its name in lower "
                "case ('file.write'), a prefix that ends in '*' ('file.*'), or '*'.",
                pointer=f"/rules/{place}/tool",
            )


def _by_rules(plan: Plan, rules: tuple[Rule, ...]) -> tuple[Verdict, str, str]:
    for place, rule in enumerate(rules):
        if _matches(rule, plan.tool):
            verdict: Verdict = "approval_required"
            if rule.verdict != "ask":
                verdict = "approved" if rule.verdict == "allow" else "denied"
            said = rule.reason or f"A rule for {rule.tool} says {rule.verdict}."
            return verdict, f"policy:{place}:{rule.tool}", said
    if plan.tier == READ:
        return "approved", "tier:0", f"{plan.tool} only reads."
    return "approval_required", f"tier:{plan.tier}", f"{plan.tool} {KINDS[plan.tier]}."


def _matches(rule: Rule, tool: str) -> bool:
    if rule.tool.endswith("*"):
        return tool.startswith(rule.tool[:-1])
    return tool == rule.tool
