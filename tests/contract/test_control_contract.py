"""What every `Control` does, whatever it keeps its state in."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from sonia.config import EvaOs
from sonia.control import (
    ApprovalNotFound,
    ApprovalSettled,
    ApprovalUnanswered,
    Control,
    Decision,
    Plan,
    Rule,
    ScopeMismatch,
    TooManyPending,
    open_control,
)
from sonia.db import open_database
from sonia.errors import InvalidRequest, NotFound, Unavailable
from sonia.types import ApprovalId

MIGRATIONS = Path(__file__).parents[2] / "migrations"
CONFIG = EvaOs(approval_ttl_s=300, max_pending=20)


class Clock:
    """The wall clock, by hand."""

    def __init__(self) -> None:
        self.at = dt.datetime(2026, 3, 1, 12, 0, tzinfo=dt.UTC)

    def __call__(self) -> dt.datetime:
        return self.at

    def forward(self, seconds: float) -> None:
        self.at += dt.timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def control(tmp_path: Path, clock: Clock) -> AsyncIterator[Control]:
    async with (
        open_database(tmp_path / "sonia.db", MIGRATIONS) as db,
        open_control(CONFIG, db, clock=clock) as service,
    ):
        yield service


def plan(**changes: Any) -> Plan:
    fields: dict[str, Any] = {
        "tool": "file.write",
        "arguments": {"path": "notes.txt", "text": "hello"},
        "tier": 2,
        "working_directory": "/home/me/workspace",
        "tool_digest": "a" * 64,
        "preview": "Write 5 bytes to notes.txt",
        "digests": {"notes.txt": "b" * 64},
        "session_id": "ses_1",
    }
    return Plan(**(fields | changes))


async def ask(control: Control, wanted: Plan | None = None) -> ApprovalId:
    decision = await control.judge(wanted or plan())
    assert decision.approval_id
    return decision.approval_id


async def approved(control: Control, wanted: Plan | None = None) -> ApprovalId:
    approval_id = await ask(control, wanted)
    await control.settle(approval_id, approve=True, by="test")
    return approval_id


async def kinds(control: Control) -> list[str]:
    return [entry.kind for entry in await control.ledger(limit=1000)]


async def test_it_is_a_control(control: Control) -> None:
    assert isinstance(control, Control)


# --- deciding --------------------------------------------------------------------------------


async def test_the_same_plan_gets_the_same_decision(control: Control) -> None:
    decisions = [await control.judge(plan(), ask=False) for _ in range(5)]

    assert len(set(map(repr, decisions))) == 1
    assert decisions[0].verdict == "approval_required"
    assert await control.approvals() == ()


async def test_every_decision_is_in_the_ledger(control: Control) -> None:
    decision = await control.judge(plan())

    (entry,) = await control.ledger()
    assert entry.kind == "decision"
    assert entry.data["scope_hash"] == decision.scope_hash
    assert entry.data["approval_id"] == decision.approval_id
    assert (await control.verify_ledger()).ok


async def test_a_plan_that_json_cannot_say_is_refused(control: Control) -> None:
    with pytest.raises(InvalidRequest):
        await control.judge(plan(arguments={"x": float("nan")}))


# --- using an approval -----------------------------------------------------------------------


async def test_an_approved_call_may_run_once(control: Control) -> None:
    approval_id = await approved(control)

    decision = await control.redeem(approval_id, plan())

    assert (decision.verdict, decision.approval_id) == ("approved", approval_id)
    assert (await control.approval(approval_id)).state == "consumed"
    assert await kinds(control) == ["decision", "approval.approved", "approval.consumed"]
    with pytest.raises(ApprovalSettled) as replayed:
        await control.redeem(approval_id, plan())
    assert replayed.value.details["state"] == "consumed"


@pytest.mark.parametrize(
    "change",
    [
        {"tool": "file.move"},
        {"arguments": {"path": "notes.txt", "text": "hello!"}},
        {"arguments": {"path": "notes.txt"}},
        {"arguments": {"path": "notes.txt", "text": "hello", "mode": 1}},
        {"working_directory": "/home/me"},
        {"tool_digest": "c" * 64},
        {"digests": {"notes.txt": "c" * 64}},
        {"digests": {}},
        {"session_id": "ses_2"},
        {"session_id": None},
    ],
)
async def test_t06_an_approval_is_for_one_call_only(
    control: Control, change: dict[str, Any]
) -> None:
    approval_id = await approved(control)

    with pytest.raises(ScopeMismatch):
        await control.redeem(approval_id, plan(**change))

    assert (await kinds(control))[-1] == "approval.refused"
    assert (await control.redeem(approval_id, plan())).verdict == "approved"


async def test_t06_a_changed_policy_voids_what_was_approved(control: Control) -> None:
    used, waiting = await approved(control), await ask(control, plan(session_id="ses_2"))

    await control.set_policy((), by="test")

    for approval_id in (used, waiting):
        with pytest.raises(ApprovalSettled) as refused:
            await control.redeem(approval_id, plan())
        assert refused.value.details["state"] == "cancelled"


async def test_t08_of_fifty_at_once_one_uses_it(control: Control) -> None:
    for _ in range(200):
        approval_id = await approved(control)

        answers = await asyncio.gather(
            *(control.redeem(approval_id, plan()) for _ in range(50)), return_exceptions=True
        )

        assert sum(isinstance(each, Decision) for each in answers) == 1
        assert sum(isinstance(each, ApprovalSettled) for each in answers) == 49
    assert len(await control.approvals("consumed", limit=1_000)) == 200


async def test_an_unanswered_or_unknown_approval_is_of_no_use(control: Control) -> None:
    approval_id = await ask(control)

    with pytest.raises(ApprovalUnanswered):
        await control.redeem(approval_id, plan())
    with pytest.raises(ApprovalNotFound):
        await control.redeem(ApprovalId("apr_other"), plan())


# --- answering -------------------------------------------------------------------------------


async def test_t09_of_yes_and_no_at_once_one_counts(control: Control) -> None:
    for _ in range(20):
        approval_id = await ask(control)

        answers = await asyncio.gather(
            *(
                control.settle(approval_id, approve=bool(number % 2), by=f"{number}")
                for number in range(10)
            ),
            return_exceptions=True,
        )

        (kept,) = [each for each in answers if not isinstance(each, BaseException)]
        assert await control.approval(approval_id) == kept
        await control.withdraw(approval_id, "done")


async def test_t09_an_answer_at_the_deadline_is_late(control: Control, clock: Clock) -> None:
    approval_id = await ask(control)

    clock.forward(300)

    with pytest.raises(ApprovalSettled) as late:
        await control.settle(approval_id, approve=True, by="test")
    assert late.value.details["state"] == "expired"
    assert (await control.approval(approval_id)).state == "expired"
    assert await control.approvals("pending") == ()


async def test_t09_an_answer_just_before_the_deadline_counts_until_then(
    control: Control, clock: Clock
) -> None:
    approval_id = await ask(control)
    clock.forward(299.999999)
    await control.settle(approval_id, approve=True, by="test")

    clock.forward(0.000001)

    with pytest.raises(ApprovalSettled) as late:
        await control.redeem(approval_id, plan())
    assert late.value.details["state"] == "expired"


async def test_a_denied_approval_stays_denied(control: Control) -> None:
    approval_id = await ask(control)

    answer = await control.settle(approval_id, approve=False, by="test", reason="no")

    assert (answer.state, answer.answered_by, answer.answer_reason) == ("denied", "test", "no")
    with pytest.raises(ApprovalSettled):
        await control.settle(approval_id, approve=True, by="test")
    await control.withdraw(approval_id, "late")
    assert await control.approval(approval_id) == answer


async def test_a_withdrawn_approval_cannot_be_used(control: Control) -> None:
    approval_id = await approved(control)

    await control.withdraw(approval_id, "the client left")

    with pytest.raises(ApprovalSettled):
        await control.redeem(approval_id, plan())
    assert (await control.approval(approval_id)).answer_reason == "the client left"
    with pytest.raises(ApprovalNotFound):
        await control.withdraw(ApprovalId("apr_other"), "x")


async def test_t14_what_a_person_reads_is_spelled_out(control: Control) -> None:
    approval_id = await ask(control, plan(preview="rm \u202etxt.seton"))

    assert (await control.approval(approval_id)).preview == "rm \\u202etxt.seton"


# --- waiting for an answer -------------------------------------------------------------------


async def waiting_for(control: Control, approval_id: ApprovalId) -> asyncio.Task[Any]:
    """A task that has seen the approval pending and now waits."""
    task = asyncio.create_task(control.decided(approval_id))
    for _ in range(3):
        await control.approval(approval_id)
    assert not task.done()
    return task


@pytest.mark.parametrize("state", ["approved", "denied", "cancelled"])
async def test_whoever_waits_hears_the_answer(control: Control, state: str) -> None:
    approval_id = await ask(control)
    tasks = [await waiting_for(control, approval_id) for _ in range(3)]

    if state == "cancelled":
        await control.withdraw(approval_id, "gone")
    else:
        await control.settle(approval_id, approve=state == "approved", by="test")

    assert [(await task).state for task in tasks] == [state] * 3
    assert (await control.decided(approval_id)).state == state


async def test_whoever_waits_hears_that_the_policy_changed(control: Control) -> None:
    approval_id = await ask(control)
    task = await waiting_for(control, approval_id)

    await control.set_policy((), by="test")

    assert (await task).state == "cancelled"


async def test_waiting_for_an_unknown_approval_is_not_found(control: Control) -> None:
    with pytest.raises(ApprovalNotFound):
        await control.decided(ApprovalId("apr_other"))


async def test_r21_an_approval_lapses_though_the_clock_was_set_back(
    tmp_path: Path, clock: Clock
) -> None:
    async with (
        open_database(tmp_path / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(approval_ttl_s=0.05), db, clock=clock) as control,
    ):
        used, waiting = await approved(control), await ask(control, plan(session_id="ses_2"))
        clock.forward(-3600)

        approval = await control.decided(waiting)

        assert approval.state == "expired"
        with pytest.raises(ApprovalSettled):
            await control.redeem(used, plan())
        assert (await kinds(control)).count("approval.expired") == 2


# --- asking too much -------------------------------------------------------------------------


async def test_t13_identical_questions_are_one(control: Control) -> None:
    asked = await asyncio.gather(*(ask(control) for _ in range(50)))

    assert len(set(asked)) == 1
    assert len(await control.approvals("pending")) == 1


@pytest.mark.parametrize(
    "change", [{"session_id": "ses_2"}, {"origins": ("web",)}, {"preview": "other words"}]
)
async def test_t13_questions_that_a_person_would_tell_apart_are_two(
    control: Control, change: dict[str, Any]
) -> None:
    assert await ask(control, plan(**change)) != await ask(control)


@pytest.mark.parametrize(("sessions", "waiting"), [(1, 10), (2, 20), (5, 20)])
async def test_t13_of_a_thousand_questions_twenty_wait_and_ten_of_one_session(
    control: Control, clock: Clock, sessions: int, waiting: int
) -> None:
    flood = [
        plan(arguments={"n": number}, session_id=f"ses_{number % sessions}")
        for number in range(1_000)
    ]

    answers = await asyncio.gather(*map(control.judge, flood), return_exceptions=True)

    refused = [each for each in answers if isinstance(each, TooManyPending)]
    assert len(refused) == 1_000 - waiting
    assert refused[0].retry_after_s == 300
    assert len(await control.approvals("pending", limit=1_000)) == waiting
    clock.forward(300)
    assert await ask(control)


# --- policy, restarts, planning, health ------------------------------------------------------


async def test_the_policy_counts_up_and_is_recorded(control: Control) -> None:
    rules = (Rule(tool="file.*", verdict="deny", reason="Not today."),)

    policy = await control.set_policy(rules, by="test")

    assert (policy.version, policy.rules) == (2, rules)
    assert await control.policy() == policy
    assert (await control.judge(plan())).reason == "Not today."
    entry = (await control.ledger())[0]
    assert (entry.kind, entry.data["version"], entry.data["by"]) == ("policy.changed", 2, "test")


async def test_t10_a_restart_cancels_what_was_open(tmp_path: Path) -> None:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        async with open_control(CONFIG, db) as control:
            used, asked = await approved(control), await ask(control, plan(session_id="ses_2"))
            task = await waiting_for(control, asked)
        assert (await task).state == "cancelled"

        async with open_control(CONFIG, db) as control:
            for approval_id in (used, asked):
                assert (await control.approval(approval_id)).state == "cancelled"
            assert (await control.verify_ledger()).ok


async def test_an_error_inside_arrives_as_it_was_raised(tmp_path: Path) -> None:
    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        with pytest.raises(NotFound, match="mine"):
            async with open_control(CONFIG, db):
                raise NotFound("mine")


class OneTool:
    """Plans `file.write` and nothing else."""

    async def plan(self, tool_name: str, args: dict[str, Any], **context: Any) -> Plan:
        if tool_name != "file.write":
            raise NotFound(f"No tool {tool_name!r}.")
        return plan(arguments=args, **context)


async def test_t16_the_gate_denies_what_does_not_exist(control: Control) -> None:
    with pytest.raises(Unavailable):
        await control.gate("file.write", {})
    undo = control.plan_with(OneTool())

    asked = await control.gate("file.write", {"n": 1}, session_id="ses_9")
    denied = await control.gate("File.Write", {})

    assert (asked.verdict, denied.verdict) == ("approval_required", "denied")
    assert (await control.approvals("pending"))[0].session_id == "ses_9"
    undo()
    with pytest.raises(Unavailable):
        await control.gate("file.write", {})


async def test_everyone_watched_is_asked_at_once_and_nobody_spoils_it(control: Control) -> None:
    together = asyncio.Barrier(2)

    async def well() -> dict[str, object]:
        await together.wait()
        return {"n": 1}

    async def down() -> dict[str, object]:
        raise Unavailable("No model is loaded.")

    async def hung() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    async def broken() -> dict[str, object]:
        raise KeyError("sk-secret-secret")

    for name, probe in {"a": well, "b": well, "down": down, "hung": hung, "bug": broken}.items():
        control.watch(name, probe)

    vitals = await control.vitals()

    assert {name: vital.ok for name, vital in vitals.items()} == {
        "a": True,
        "b": True,
        "down": False,
        "hung": False,
        "bug": False,
    }
    assert vitals["down"].reason == "No model is loaded."
    assert "1 s" in (vitals["hung"].reason or "")
    assert "secret" not in (vitals["bug"].reason or "")


async def test_what_is_no_longer_watched_is_not_asked(control: Control) -> None:
    async def probe() -> dict[str, object]:
        return {}

    stop = control.watch("a", probe)

    stop()

    assert await control.vitals() == {}
