"""Effects that failed: kept, tried again once and under a new decision, dismissed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sonia.config import EvaOs, OpenClaw
from sonia.control import Control, LetterNotFound, LetterSettled, Rule, open_control
from sonia.db import Database, open_database
from sonia.errors import SoniaError
from sonia.tools import Call, GuardedTools, Outcome, open_tools
from tests.memory_given import MIGRATIONS

SLOW = Call(
    tool_name="shell.run", args={"command": "sleep 0.3; echo made > made.txt"}, timeout_ms=100
)


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[tuple[GuardedTools, Control, Database]]:
    async with (
        open_database(folder / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
        open_tools(OpenClaw(), control, db, folder / "workspace") as tools,
    ):
        yield tools, control, db


async def approved(tools: GuardedTools, control: Control, call: Call) -> Outcome:
    asked = await tools.execute(call)
    assert asked.approval_id is not None
    await control.settle(asked.approval_id, approve=True, by="operator")
    again = {"approval_id": asked.approval_id, "timeout_ms": call.timeout_ms}
    return await tools.execute(Call(tool_name=call.tool_name, args=call.args, **again))


async def test_an_effect_that_failed_is_tried_again_only_under_a_new_decision(
    tmp_path: Path,
) -> None:
    async with staged(tmp_path) as (tools, control, _):
        failed = await approved(tools, control, SLOW)
        (letter,) = await tools.letters()

        tried = await tools.replay(letter.id)
        before = (tmp_path / "workspace" / "made.txt").exists()
        assert tried.approval_id is not None
        await control.settle(tried.approval_id, approve=True, by="operator")
        done = await tools.settled(tried.action_id)
        left = await tools.letters()
        with pytest.raises(LetterSettled, match="replayed already"):
            await tools.replay(letter.id)

    assert failed.status == "timeout"
    assert (letter.action_id, letter.tool) == (failed.action_id, "shell.run")
    assert letter.arguments["command"] == SLOW.args["command"]
    assert (tried.status, before) == ("approval_required", False)
    assert (done.status, done.action_id) == ("executed", tried.letter.replayed_as)
    assert (tmp_path / "workspace" / "made.txt").read_text() == "made\n"
    assert left == ()


async def test_many_who_try_the_same_again_do_it_once(tmp_path: Path) -> None:
    async with staged(tmp_path) as (tools, control, _):
        await approved(tools, control, SLOW)
        (letter,) = await tools.letters()
        await control.set_policy((Rule(tool="shell.run", verdict="allow"),), by="operator")

        tries = [tools.replay(letter.id) for _ in range(20)]
        found = await asyncio.gather(*tries, return_exceptions=True)

    worked = [one for one in found if not isinstance(one, SoniaError)]
    assert len(worked) == 1
    assert all(isinstance(one, LetterSettled) for one in found if isinstance(one, SoniaError))


async def test_what_was_done_and_what_only_read_leaves_no_letter(tmp_path: Path) -> None:
    async with staged(tmp_path) as (tools, control, _):
        write = Call(tool_name="file.write", args={"path": "a.txt", "content": "hi"})
        await approved(tools, control, write)
        await tools.execute(Call(tool_name="file.read", args={"path": "missing.txt"}))

        assert await tools.letters(None) == ()


async def test_what_a_crash_interrupted_is_a_letter_after_the_next_start(tmp_path: Path) -> None:
    async with staged(tmp_path) as (tools, control, db):
        await approved(tools, control, SLOW)
        await db.write(lambda c: c.execute("UPDATE tools_dead_letters SET state = 'running'"))
        during = await tools.letters(None)

    async with staged(tmp_path) as (tools, _, _):
        (letter,) = await tools.letters()

    assert during == ()
    assert letter.tool == "shell.run"


async def test_t43_a_letter_holds_no_secret_and_then_can_not_be_tried_again(
    tmp_path: Path,
) -> None:
    command = "sleep 0.3; echo sk-ant-0123456789abcdefghijklmnop"
    call = Call(tool_name="shell.run", args={"command": command}, timeout_ms=100)
    async with staged(tmp_path) as (tools, control, _):
        await approved(tools, control, call)
        (letter,) = await tools.letters()

        with pytest.raises(LetterSettled, match="secret"):
            await tools.replay(letter.id)

    assert "0123456789" not in str(letter.arguments)


async def test_a_dismissed_letter_is_left_at_that(tmp_path: Path) -> None:
    async with staged(tmp_path) as (tools, control, _):
        await approved(tools, control, SLOW)
        (letter,) = await tools.letters()

        dismissed = await tools.dismiss(letter.id)
        with pytest.raises(LetterSettled):
            await tools.dismiss(letter.id)
        with pytest.raises(LetterNotFound):
            await tools.dismiss("let_none")

    assert dismissed.state == "dismissed"
