"""Health with breakers, what depends on what, and maintenance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sonia.config import EvaOs
from sonia.control import Plan, Rule, open_control, open_tasks
from sonia.control.service import SqliteControl
from sonia.control.tasks import NewTask
from sonia.control.vitals import FAILURES, LEFT_ALONE_S, Vitals
from sonia.db import Database
from sonia.errors import Unavailable
from sonia.events import Bus

MakePlan = Callable[..., Plan]


class Part:
    """A part that is down while it is told to be."""

    def __init__(self, *, down: bool = False) -> None:
        self.down = down
        self.asked = 0

    async def __call__(self) -> dict[str, Any]:
        self.asked += 1
        if self.down:
            raise Unavailable("It is away.")
        return {"fine": True}


async def test_a_part_that_keeps_failing_is_left_alone_and_then_asked_once() -> None:
    at = [0.0]
    vitals, part = Vitals(clock=lambda: at[0]), Part(down=True)
    vitals.watch("part", part)
    for _ in range(FAILURES):
        await vitals.ask()

    alone = (await vitals.ask())["part"]
    asked = part.asked
    at[0] = LEFT_ALONE_S
    tried = (await vitals.ask())["part"]
    at[0] = 2 * LEFT_ALONE_S
    part.down = False
    healed = (await vitals.ask())["part"]
    after = (await vitals.ask())["part"]

    assert asked == FAILURES
    assert (alone.ok, alone.breaker, alone.reason) == (False, "open", "It is away.")
    assert (tried.ok, tried.breaker) == (False, "half_open")
    assert (healed.ok, healed.breaker) == (True, "half_open")
    assert (after.ok, after.breaker) == (True, "closed")


async def test_who_needs_what_is_down_is_impaired_however_far_away_it_is() -> None:
    vitals = Vitals()
    vitals.watch("voice", Part(), ("gateway",))
    vitals.watch("gateway", Part(), ("router", "control"))
    vitals.watch("router", Part(down=True))
    vitals.watch("control", Part(), ("gateway",))  # a circle ends, too

    nodes = {node.name: node for node in await vitals.graph()}

    assert nodes["voice"].needs == ("gateway",)
    assert nodes["voice"].impaired_by == ("router",)
    assert nodes["router"].impaired_by == ()
    assert nodes["router"].reason == "It is away."
    assert nodes["control"].impaired_by == ("router",)


async def test_in_maintenance_reading_goes_on_and_nothing_else_whatever_the_rules_say(
    control: SqliteControl, make_plan: MakePlan
) -> None:
    await control.set_policy((Rule(tool="*", verdict="allow"),), by="operator")
    await control.set_maintenance(True, reason="a new disk", by="operator")

    read = await control.judge(make_plan(tool="file.read", arguments={}, tier=0))
    write = await control.judge(make_plan())
    await control.set_maintenance(False, reason="", by="operator")
    after = await control.judge(make_plan())

    assert read.verdict == "approved"
    assert (write.verdict, write.rule) == ("denied", "maintenance")
    assert "a new disk" in write.reason
    assert after.verdict == "approved"


async def test_what_was_approved_before_maintenance_is_not_done_in_it(
    control: SqliteControl, make_plan: MakePlan
) -> None:
    asked = await control.judge(make_plan())
    assert asked.approval_id is not None
    await control.settle(asked.approval_id, approve=True, by="operator")

    await control.set_maintenance(True, reason="", by="operator")

    assert (await control.approval(asked.approval_id)).state == "cancelled"


async def test_a_restart_does_not_end_maintenance(db: Database, make_plan: MakePlan) -> None:
    async with open_control(EvaOs(), db) as control:
        await control.set_maintenance(True, reason="", by="operator")

    async with open_control(EvaOs(), db) as control:
        kept = control.maintenance()
        decision = await control.judge(make_plan())

    assert kept.on
    assert decision.verdict == "denied"


async def test_in_maintenance_what_is_due_stays_due(db: Database, clock: Any) -> None:
    paused = [True]
    async with open_tasks(db, Bus(), clock=clock, paused=lambda: paused[0]) as tasks:
        task = await tasks.add(NewTask(text="the oven", when="in 5 minutes", kind="reminder"))
        clock.forward(301)
        await tasks._look()

        kept = await tasks.task(task.id)

    assert kept.runs == ()
    assert kept.next_at == task.next_at


@pytest.mark.parametrize("on", [True, False])
async def test_maintenance_is_on_the_record(control: SqliteControl, on: bool) -> None:
    await control.set_maintenance(on, reason="a new disk", by="operator")

    row = (await control.ledger())[-1]

    assert row.kind == ("maintenance.began" if on else "maintenance.ended")
    assert row.data == {"by": "operator", "reason": "a new disk"}
