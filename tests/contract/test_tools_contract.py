"""What every filling of `Tools` promises."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sonia.config import EvaOs, OpenClaw
from sonia.control import Control, Planner, open_control
from sonia.db import open_database
from sonia.tools import ActionNotFound, ArgumentsInvalid, Call, ToolNotFound, Tools, open_tools

MIGRATIONS = Path(__file__).parents[2] / "migrations"


@pytest.fixture
async def control_and_tools(tmp_path: Path) -> AsyncIterator[tuple[Control, Tools]]:
    async with (
        open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
        open_tools(OpenClaw(), control, db, tmp_path / "workspace") as tools,
    ):
        yield control, tools


@pytest.fixture
def tools(control_and_tools: tuple[Control, Tools]) -> Tools:
    return control_and_tools[1]


@pytest.fixture
def control(control_and_tools: tuple[Control, Tools]) -> Control:
    return control_and_tools[0]


def guarded(**more: object) -> Call:
    arguments = {"path": "a.txt", "content": "hello\n"}
    return Call(tool_name="file.write", args=arguments, **more)  # type: ignore[arg-type]


def test_it_fits_the_protocols_that_others_know(tools: Tools) -> None:
    assert isinstance(tools, Tools)
    assert isinstance(tools, Planner)


def test_every_tool_is_described_alike_everywhere(tools: Tools) -> None:
    names = [info.name for info in tools.catalogue()]

    assert names == sorted(names)
    assert [spec.name for spec in tools.specs()] == names
    for info, spec in zip(tools.catalogue(), tools.specs(), strict=True):
        assert tools.describe(info.name) == info
        assert all(tools.describe(alias) == info for alias in info.aliases)
        assert spec.parameters == info.arguments
        assert info.description.endswith(".")
        assert (info.risk_tier == 0) == (info.side_effects == ())


def test_an_unknown_name_is_not_found_and_the_known_ones_are_told(tools: Tools) -> None:
    with pytest.raises(ToolNotFound) as raised:
        tools.describe("no.such")

    assert "file.read" in raised.value.details["known"]


async def test_the_same_call_has_the_same_plan(tools: Tools) -> None:
    named = await tools.plan("file.write", {"path": "a", "content": "x"})
    aliased = await tools.plan(
        "filesystem.write_file", {"content": "x", "path": "a", "mode": "replace"}
    )

    assert named == aliased
    assert named.arguments == {"path": "a", "content": "x", "mode": "replace", "find": None}


async def test_planning_runs_nothing_and_asks_nobody(control: Control, tools: Tools) -> None:
    await tools.plan("file.write", {"path": "a/b", "content": "x"})

    listed = await tools.execute(Call(tool_name="file.list"))
    assert listed.result is not None
    assert listed.result["entries"] == []
    assert await control.approvals() == ()


async def test_planning_refuses_what_execution_would(tools: Tools) -> None:
    with pytest.raises(ToolNotFound):
        await tools.plan("no.such", {})
    with pytest.raises(ArgumentsInvalid):
        await tools.plan("file.read", {"path": "../x"})


async def test_an_approved_action_settles_and_is_told_alike_afterwards(
    control: Control, tools: Tools
) -> None:
    asked = await tools.execute(guarded(follow_up=True))
    waiting = asyncio.create_task(tools.settled(asked.action_id))
    assert asked.approval_id is not None

    await control.settle(asked.approval_id, approve=True, by="test")
    done = await waiting

    assert done.status == "executed"
    assert done.action_id == asked.action_id
    assert await tools.action(asked.action_id) == done
    assert (await tools.actions())[0] == done


async def test_withdrawing_ends_the_waiting(tools: Tools) -> None:
    asked = await tools.execute(guarded())
    waiting = asyncio.create_task(tools.settled(asked.action_id))

    await tools.withdraw(asked.action_id)
    await tools.withdraw(asked.action_id)

    assert (await waiting).status == "denied"


async def test_an_unknown_action_is_not_found(tools: Tools) -> None:
    for ask in (tools.action, tools.settled, tools.withdraw):
        with pytest.raises(ActionNotFound):
            await ask("act_none")


async def test_actions_come_newest_first_and_bounded(tools: Tools) -> None:
    done = [await tools.execute(Call(tool_name="file.list")) for _ in range(3)]

    listed = await tools.actions(limit=2)

    assert [outcome.action_id for outcome in listed] == [done[2].action_id, done[1].action_id]


async def test_every_outcome_can_be_sent_as_json(tools: Tools) -> None:
    import msgspec

    for call in (Call(tool_name="system.info"), Call(tool_name="file.list"), guarded()):
        outcome = await tools.execute(call)

        assert msgspec.json.decode(msgspec.json.encode(outcome), type=type(outcome)) == outcome
