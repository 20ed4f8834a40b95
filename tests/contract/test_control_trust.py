"""Confirmation codes, voice, trust, modes and rules: what a yes takes, and what it is good for."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from sonia.config import EvaOs
from sonia.control import (
    ApprovalSettled,
    CodeNeeded,
    Control,
    Decision,
    Mode,
    Plan,
    Rule,
    TrustFor,
    TrustNotFound,
    TrustRefused,
    VoiceForbidden,
    open_control,
)
from sonia.db import open_database
from sonia.errors import ConfigurationError
from sonia.types import ApprovalId
from tests.contract.test_control_contract import MIGRATIONS, Clock, ask, clock, control, plan

__all__ = ["clock", "control"]  # fixtures


def worst(**changes: Any) -> Plan:
    return plan(tier=3, **changes)


async def wrong(control: Control, approval_id: ApprovalId) -> str:
    right = await control.code(approval_id)
    return f"{(int(right) + 1) % 10**6:06}"


async def trusted(control: Control, kind: TrustFor, asked: Plan) -> None:
    approval_id = await ask(control, asked)
    await control.settle(approval_id, approve=True, by="test", trust=kind)
    await control.redeem(approval_id, asked)


async def verdict(control: Control, wanted: Plan) -> str:
    return (await control.judge(wanted, ask=False)).verdict


# --- confirmation codes ----------------------------------------------------------------------


async def test_t11_the_worst_takes_the_code_for_a_yes_and_none_for_a_no(control: Control) -> None:
    yes, no = await ask(control, worst()), await ask(control, worst(session_id="ses_2"))

    with pytest.raises(CodeNeeded):
        await control.settle(yes, approve=True, by="test")
    answer = await control.settle(yes, approve=True, by="test", code=await control.code(yes))
    refused = await control.settle(no, approve=False, by="test")

    assert (answer.state, refused.state) == ("approved", "denied")
    assert answer.needs_code


async def test_t11_the_fifth_wrong_code_is_a_no_and_the_right_one_comes_too_late(
    control: Control,
) -> None:
    approval_id = await ask(control, worst())
    right, guess = await control.code(approval_id), await wrong(control, approval_id)

    left = []
    for _ in range(5):
        with pytest.raises(CodeNeeded) as mistaken:
            await control.settle(approval_id, approve=True, by="test", code=guess)
        left.append(mistaken.value.details["tries_left"])
    with pytest.raises(ApprovalSettled):
        await control.settle(approval_id, approve=True, by="test", code=right)

    assert left == [4, 3, 2, 1, 0]
    assert (await control.approval(approval_id)).state == "denied"
    assert (await control.decided(approval_id)).state == "denied"


async def test_t11_ten_thousand_guesses_open_nothing(control: Control) -> None:
    approval_id = await ask(control, worst())
    guesses = {f"{guess:06}" for guess in range(10_000)} - {await control.code(approval_id)}

    for guess in sorted(guesses)[:200]:
        with pytest.raises((CodeNeeded, ApprovalSettled)):
            await control.settle(approval_id, approve=True, by="test", code=guess)

    assert (await control.approval(approval_id)).state == "denied"
    tries = [each for each in await control.ledger(limit=1000) if "mistaken" in each.kind]
    assert len(tries) == 5


async def test_a_missing_code_is_no_try_and_an_approval_never_shows_it(control: Control) -> None:
    approval_id = await ask(control, worst())
    code = await control.code(approval_id)

    for _ in range(10):
        with pytest.raises(CodeNeeded):
            await control.settle(approval_id, approve=True, by="test")

    assert code not in repr(await control.approval(approval_id))
    assert code not in repr(await control.ledger())
    assert (await control.settle(approval_id, approve=True, by="test", code=code)).state


# --- voice -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", [2, 3])
async def test_t15_a_voice_never_says_yes_to_what_modifies(control: Control, tier: int) -> None:
    approval_id = await ask(control, plan(tier=tier))
    code = await control.code(approval_id)

    with pytest.raises(VoiceForbidden):
        await control.settle(approval_id, approve=True, by="voice", code=code)

    assert (await control.approval(approval_id)).state == "pending"
    assert (await control.settle(approval_id, approve=False, by="voice")).state == "denied"


async def test_t15_a_voice_says_yes_to_a_small_thing_with_the_code(control: Control) -> None:
    approval_id = await ask(control, plan(tier=1))
    spoken = " ".join(
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")[int(digit)]
        for digit in await control.code(approval_id)
    )

    with pytest.raises(CodeNeeded):
        await control.settle(approval_id, approve=True, by="voice")
    with pytest.raises(CodeNeeded):
        await control.settle(approval_id, approve=True, by="voice", code="yes, approve")
    answer = await control.settle(approval_id, approve=True, by="voice", code=f"Yes: {spoken}.")

    assert answer.state == "approved"


# --- trust -----------------------------------------------------------------------------------


async def test_trust_in_a_call_covers_that_call_and_no_other(control: Control) -> None:
    await trusted(control, "exact", plan())

    assert await verdict(control, plan()) == "approved"
    assert await verdict(control, plan(arguments={"path": "b.txt"})) == "approval_required"
    assert await verdict(control, plan(session_id="ses_2")) == "approval_required"
    assert await verdict(control, plan(digests={})) == "approval_required"


async def test_trust_for_a_session_covers_the_tool_there_up_to_its_tier(control: Control) -> None:
    await trusted(control, "session", plan())

    assert await verdict(control, plan(arguments={"path": "b.txt"})) == "approved"
    assert await verdict(control, plan(tool="file.delete")) == "approval_required"
    assert await verdict(control, plan(session_id=None)) == "approval_required"
    assert await verdict(control, plan(arguments={"path": "run.sh"})) == "approval_required"


@pytest.mark.parametrize(
    "change", [{"origins": ("web",)}, {"unattended": True}, {"tier": 3}, {"origins": ()}]
)
async def test_trust_does_not_cover_what_came_from_outside_or_nobody_attends(
    control: Control, change: dict[str, Any]
) -> None:
    await trusted(control, "session", plan())

    assert await verdict(control, plan(**change)) == "approval_required"


async def test_trust_lapses_and_can_be_taken_back(control: Control, clock: Clock) -> None:
    await trusted(control, "session", plan())
    await trusted(control, "exact", plan(tool="file.move"))
    move, write = await control.trusts()

    await control.distrust(move.id, by="test")
    taken_back = await verdict(control, plan(tool="file.move"))
    clock.forward(3600)

    assert (move.kind, write.kind, write.tool) == ("exact", "session", "file.write")
    assert taken_back == "approval_required"
    assert await verdict(control, plan()) == "approval_required"
    assert await control.trusts() == ()
    with pytest.raises(TrustNotFound):
        await control.distrust(move.id, by="test")


async def test_trust_ends_with_the_policy_and_the_mode(control: Control) -> None:
    await trusted(control, "session", plan())
    await control.set_policy((), by="test")
    after_policy = await control.trusts()
    await trusted(control, "session", plan())
    await control.set_mode("operator", by="test")

    assert after_policy == await control.trusts() == ()


@pytest.mark.parametrize("changes", [{"tier": 3}, {"session_id": None}])
async def test_the_worst_and_what_has_no_session_is_not_trusted(
    control: Control, changes: dict[str, Any]
) -> None:
    approval_id = await ask(control, plan(**changes))
    code = await control.code(approval_id)

    with pytest.raises(TrustRefused):
        await control.settle(approval_id, approve=True, by="test", code=code, trust="session")

    assert (await control.approval(approval_id)).state == "pending"


# --- modes, hours and rules ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("conversation", "yes ask ask ask"),
        ("operator", "yes yes ask ask"),
        ("build", "yes yes yes ask"),
        ("diagnostic", "yes no no no"),
        ("dictation", "no no no no"),
    ],
)
async def test_a_mode_says_what_needs_no_question(control: Control, mode: Mode, said: str) -> None:
    await control.set_mode(mode, by="test")

    verdicts = [await verdict(control, plan(tier=tier)) for tier in range(4)]

    words = {"approved": "yes", "approval_required": "ask", "denied": "no"}
    assert " ".join(words[each] for each in verdicts) == said
    assert await control.mode() == mode


@pytest.mark.parametrize("mode", ["operator", "build"])
async def test_unattended_work_has_no_more_than_the_usual_mode(
    control: Control, mode: Mode
) -> None:
    await control.set_mode(mode, by="test")

    assert await verdict(control, plan(tier=1, unattended=True)) == "approval_required"


async def test_t16_a_mode_stands_above_rules_and_a_restart(tmp_path: Path) -> None:
    allow = (Rule(tool="*", verdict="allow"),)
    async with open_database(tmp_path / "s.db", MIGRATIONS) as db:
        async with open_control(EvaOs(), db) as before:
            await before.set_mode("diagnostic", by="test")
            await before.set_policy(allow, by="test")
        async with open_control(EvaOs(), db) as after:
            decided = await after.judge(plan(), ask=False)

    assert (decided.verdict, decided.rule) == ("denied", "mode:diagnostic")


async def test_in_quiet_hours_everything_but_reading_asks(tmp_path: Path) -> None:
    allow = (Rule(tool="*", verdict="allow"),)
    local = dt.datetime(2026, 3, 1, 23, 30).astimezone()
    hour = Clock()
    hour.at = local
    async with (
        open_database(tmp_path / "s.db", MIGRATIONS) as db,
        open_control(EvaOs(quiet_hours="22:00-07:00"), db, clock=hour) as control,
    ):
        await control.set_policy(allow, by="test")
        at_night = [await control.judge(plan(tier=tier), ask=False) for tier in (0, 2)]
        hour.forward(8 * 3600)
        by_day = await control.judge(plan(), ask=False)

    assert [each.verdict for each in at_night] == ["approved", "approval_required"]
    assert at_night[1].rule == "quiet-hours"
    assert by_day.verdict == "approved"


async def test_a_rules_file_comes_first_and_a_changed_one_is_another_policy(
    tmp_path: Path,
) -> None:
    rules = tmp_path / "rules.toml"
    decisions: list[Decision] = []
    async with open_database(tmp_path / "s.db", MIGRATIONS) as db:
        for verdict_of_file in ("deny", "deny", "ask"):
            rules.write_text(f'[[rules]]\ntool = "file.*"\nverdict = "{verdict_of_file}"\n')
            async with open_control(EvaOs(), db, rules_file=rules) as control:
                await control.set_policy((Rule(tool="*", verdict="allow"),), by="test")
                decisions.append(await control.judge(plan(), ask=False))

    assert [each.verdict for each in decisions] == ["denied", "denied", "approval_required"]
    assert decisions[0].rule == "file:0:file.*"
    assert len({each.scope_hash for each in decisions}) == 3


@pytest.mark.parametrize(
    "text", ["rules = 1", '[[rules]]\ntool = "File.*"\nverdict = "deny"', "[[rule]]", "\x00"]
)
async def test_a_rules_file_with_a_mistake_stops_the_start(tmp_path: Path, text: str) -> None:
    rules = tmp_path / "rules.toml"
    rules.write_text(text)

    async with open_database(tmp_path / "s.db", MIGRATIONS) as db:
        with pytest.raises(ConfigurationError, match=r"rules\.toml"):
            async with open_control(EvaOs(), db, rules_file=rules):
                pass
