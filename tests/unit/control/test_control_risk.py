"""What is allowed, asked and denied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sonia.control import Plan, Policy, Rule, RuleVerdict, Tier, Verdict
from sonia.control.risk import TRUSTED, rule_on
from sonia.control.rules import check_rules
from sonia.errors import InvalidRequest
from sonia.types import Origin

MakePlan = Callable[..., Plan]
OUTSIDE = sorted(set(get_args(Origin)) - TRUSTED)
NO_RULES = Policy(version=1)


def policy(*rules: tuple[str, RuleVerdict]) -> Policy:
    return Policy(version=1, rules=tuple(Rule(tool=tool, verdict=said) for tool, said in rules))


@pytest.mark.parametrize(
    ("tier", "verdict"),
    [(0, "approved"), (1, "approval_required"), (2, "approval_required"), (3, "approval_required")],
)
def test_without_a_rule_reading_is_allowed_and_the_rest_asks(
    make_plan: MakePlan, tier: Tier, verdict: Verdict
) -> None:
    ruling = rule_on(make_plan(tier=tier), NO_RULES)

    assert (ruling.verdict, ruling.tier) == (verdict, tier)


def test_the_first_rule_that_matches_decides(make_plan: MakePlan) -> None:
    rules = policy(("file.write", "deny"), ("file.*", "allow"))

    assert rule_on(make_plan(tool="file.write"), rules).verdict == "denied"
    assert rule_on(make_plan(tool="file.move"), rules).verdict == "approved"
    assert rule_on(make_plan(tool="shell.run"), rules).verdict == "approval_required"


def test_a_rule_can_make_reading_ask(make_plan: MakePlan) -> None:
    rules = policy(("*", "ask"))

    assert rule_on(make_plan(tool="file.read", tier=0), rules).verdict == "approval_required"


@pytest.mark.parametrize("origin", OUTSIDE)
@pytest.mark.parametrize("tier", [1, 2, 3])
def test_t01_no_rule_lets_what_came_from_outside_act_unasked(
    make_plan: MakePlan, origin: Origin, tier: Tier
) -> None:
    plan = make_plan(tier=tier, origins=("owner", "model", origin))

    ruling = rule_on(plan, policy(("*", "allow")))

    assert ruling.verdict == "approval_required"
    assert ruling.tier == min(3, tier + 1)
    assert origin in ruling.reason


def test_t01_a_call_of_unknown_origin_counts_as_outside(make_plan: MakePlan) -> None:
    assert rule_on(make_plan(origins=()), policy(("*", "allow"))).verdict == "approval_required"


@pytest.mark.parametrize(
    "tool", ["File.Write", "file.Write", "FILE.WRITE", "file write", "", "f\u0456le"]
)
def test_t16_a_tool_in_other_letters_is_denied_even_by_an_open_policy(
    make_plan: MakePlan, tool: str
) -> None:
    assert rule_on(make_plan(tool=tool, tier=0), policy(("*", "allow"))).verdict == "denied"


@pytest.mark.parametrize(
    "tool", ["Shell.Run", "", "*.run", "file.**", "file.* ", "fi\u0142e.*", "[a-z]*"]
)
def test_t16_a_rule_that_could_never_match_is_refused(tool: str) -> None:
    with pytest.raises(InvalidRequest, match=r"rules\[1\]"):
        check_rules([Rule(tool="file.*", verdict="deny"), Rule(tool=tool, verdict="deny")])


@pytest.mark.parametrize(
    "preview",
    [
        "x" * 10_001,
        "\u200b" * 2_000,
        "ls" + " " * 5_000 + "; rm -rf ~",
        "ls" + "\n" * 200 + "rm",
        " \n",
    ],
    ids=["long", "long when shown", "padded", "scrolled away", "empty"],
)
def test_t14_nobody_is_asked_about_what_cannot_be_read(make_plan: MakePlan, preview: str) -> None:
    ruling = rule_on(make_plan(preview=preview), NO_RULES)

    assert (ruling.verdict, ruling.rule) == ("denied", "preview")


@settings(max_examples=300)
@given(
    tier=st.sampled_from([0, 1, 2, 3]),
    origins=st.lists(st.sampled_from(get_args(Origin)), max_size=4).map(tuple),
    rules=st.lists(
        st.builds(
            Rule,
            tool=st.sampled_from(["*", "file.*", "file.write", "shell.run"]),
            verdict=st.sampled_from(get_args(RuleVerdict)),
        ),
        max_size=4,
    ).map(tuple),
)
def test_t16_whatever_the_rules_say(tier: Tier, origins: Any, rules: tuple[Rule, ...]) -> None:
    plan = Plan(
        tool="file.write",
        arguments={},
        tier=tier,
        working_directory="/w",
        tool_digest="d",
        preview="p",
        origins=origins,
    )

    ruling = rule_on(plan, Policy(version=1, rules=rules))

    assert ruling == rule_on(plan, Policy(version=1, rules=rules))
    assert ruling.tier >= tier
    if not origins or set(origins) - TRUSTED:
        assert tier == 0 or ruling.verdict != "approved"
    if not rules:
        assert (ruling.verdict == "approved") == (tier == 0)
