"""Calls through the real control plane and database: only what was approved runs, and once."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from sonia.config import EvaOs, OpenClaw
from sonia.control import (
    ApprovalSettled,
    ApprovalUnanswered,
    Control,
    LedgerDown,
    Rule,
    ScopeMismatch,
    open_control,
)
from sonia.db import Database, open_database
from sonia.errors import ConfigurationError, SoniaError, Unavailable
from sonia.tools import (
    ArgumentsInvalid,
    Call,
    GuardedTools,
    KeyReused,
    Outcome,
    ToolNotFound,
    open_tools,
)
from sonia.tools.bubblewrap import SandboxMissing

MIGRATIONS = Path(__file__).parents[2] / "migrations"


class Stage(msgspec.Struct):
    """Everything a test acts on."""

    tools: GuardedTools
    control: Control
    db: Database
    workspace: Path

    async def answer(self, outcome: Outcome, *, approve: bool = True) -> None:
        assert outcome.approval_id is not None
        await self.control.settle(outcome.approval_id, approve=approve, by="test", reason="no")

    async def facts(self, kind: str) -> list[dict[str, Any]]:
        return [row.data for row in await self.control.ledger(limit=1000) if row.kind == kind]


@contextlib.asynccontextmanager
async def staged(folder: Path, config: OpenClaw, eva: EvaOs | None = None) -> AsyncIterator[Stage]:
    async with (
        open_database(folder / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(eva or EvaOs(), db) as control,
        open_tools(config, control, db, folder / "workspace") as tools,
    ):
        yield Stage(tools, control, db, folder / "workspace")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path, OpenClaw(max_output_bytes=4_096)) as opened:
        yield opened


def write(path: str = "a.txt", content: str = "new\n", **more: Any) -> Call:
    return Call(tool_name="file.write", args={"path": path, "content": content}, **more)


def shell(command: str, **more: Any) -> Call:
    return Call(tool_name="shell.run", args={"command": command}, **more)


# --- what is free -------------------------------------------------------------------------


async def test_reading_runs_at_once_and_is_in_the_ledger(stage: Stage) -> None:
    (stage.workspace / "a.txt").write_text("hello")

    outcome = await stage.tools.execute(
        Call(tool_name="filesystem.read_file", args={"path": "a.txt"})
    )

    assert outcome.status == "executed"
    assert outcome.tool == "file.read"
    assert outcome.result is not None
    assert outcome.result["content"] == "hello"
    assert len(await stage.facts("tool.started")) == 1
    assert (await stage.facts("tool.finished"))[0]["status"] == "executed"
    assert await stage.tools.action(outcome.action_id) == outcome


async def test_a_command_that_only_reads_runs_at_once_and_any_other_asks(stage: Stage) -> None:
    (stage.workspace / "a.txt").write_text("one\ntwo\n")

    looked = await stage.tools.execute(shell("cat a.txt | wc -l && ls"))
    asked = await stage.tools.execute(shell("cat a.txt > b.txt"))

    assert (looked.status, looked.risk) == ("executed", 0)
    assert looked.result is not None
    assert looked.result["stdout"] == "2\na.txt\n"
    assert (asked.status, asked.risk) == ("approval_required", 2)


async def test_what_is_missing_is_a_failure_that_says_so(stage: Stage) -> None:
    outcome = await stage.tools.execute(Call(tool_name="file.read", args={"path": "nope"}))

    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "not_found"


async def test_a_binary_file_is_said_to_be_one(stage: Stage) -> None:
    (stage.workspace / "b").write_bytes(b"\x89PNG\0\xff")

    outcome = await stage.tools.execute(Call(tool_name="file.read", args={"path": "b"}))

    assert outcome.result == {
        "path": "b", "bytes": 6, "truncated": False, "binary": True, "content": None,
    }  # fmt: skip


async def test_a_large_result_is_cut_to_the_limit(stage: Stage) -> None:
    (stage.workspace / "big.txt").write_text('"\n' * 30_000)
    for number in range(400):
        (stage.workspace / f"{number:03}-{'x' * 80}").touch()

    read = await stage.tools.execute(Call(tool_name="file.read", args={"path": "big.txt"}))
    listed = await stage.tools.execute(Call(tool_name="file.list"))

    for outcome in (read, listed):
        assert outcome.result is not None
        assert outcome.result["output_cut"] is True
        assert 1_500 < len(msgspec.json.encode(outcome.result)) <= 4_096


# --- T16: a closed set ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["Shell.Run", "SHELL.RUN", "shell.run ", "shell", "", "x" * 10_000, "\ud800", "__class__"],
)
async def test_t16_another_spelling_is_an_unknown_tool(stage: Stage, name: str) -> None:
    with pytest.raises(ToolNotFound) as raised:
        await stage.tools.execute(Call(tool_name=name, args={"command": "ls"}))

    assert "shell.run" in raised.value.details["known"]


@pytest.mark.parametrize(
    ("args", "field"),
    [
        ({}, "path"),
        ({"path": "a", "mode": "r"}, "mode"),
        ({"path": 1}, "path"),
        ({"path": "a", "max_bytes": "1"}, "max_bytes"),
        ({"path": "a", "max_bytes": 0}, "max_bytes"),
        ({"path": "a", "max_bytes": True}, "max_bytes"),
        ({"path": None}, "path"),
        ({"path": ["a"]}, "path"),
    ],
)
async def test_t16_arguments_that_do_not_fit_are_refused_by_name(
    stage: Stage, args: dict[str, Any], field: str
) -> None:
    with pytest.raises(ArgumentsInvalid, match=field) as raised:
        await stage.tools.execute(Call(tool_name="file.read", args=args))

    assert raised.value.details["field"] == field


@pytest.mark.parametrize("args", [{"path": "\ud800"}, {"path": "a", "x": object()}, {"path": {1}}])
async def test_t16_arguments_that_are_not_json_are_refused(
    stage: Stage, args: dict[str, Any]
) -> None:
    with pytest.raises(ArgumentsInvalid):
        await stage.tools.execute(Call(tool_name="file.read", args=args))


async def test_a_powershell_command_is_told_which_shell_this_is(stage: Stage) -> None:
    with pytest.raises(ArgumentsInvalid, match="This host's shell is /bin/sh") as raised:
        await stage.tools.execute(shell("Get-ChildItem"))

    assert "'ls'" in raised.value.message
    assert await stage.control.approvals() == ()


async def test_t14_a_command_with_characters_that_do_not_show_is_refused(stage: Stage) -> None:
    for command in ("ls \u202e", "ls\r", "ls\x1b[2K", "ls \u2066"):
        with pytest.raises(ArgumentsInvalid, match="don't show"):
            await stage.tools.execute(shell(command))


# --- approvals ------------------------------------------------------------------------------


async def test_writing_waits_for_approval_and_then_runs_as_planned(stage: Stage) -> None:
    (stage.workspace / "a.txt").write_text("old\n")
    asked = await stage.tools.execute(write(follow_up=True))
    assert asked.status == "approval_required"
    assert asked.preview == "Replace a.txt\n\n--- a.txt\n+++ a.txt\n@@ -1 +1 @@\n-old\n+new\n"
    assert (stage.workspace / "a.txt").read_text() == "old\n"

    await stage.answer(asked)
    done = await stage.tools.settled(asked.action_id)

    assert done.status == "executed"
    assert done.verification is not None
    assert done.verification["ok"] is True
    assert (stage.workspace / "a.txt").read_text() == "new\n"
    assert await stage.tools.action(asked.action_id) == done


async def test_what_is_denied_never_runs_and_says_why(stage: Stage) -> None:
    asked = await stage.tools.execute(write(follow_up=True))

    await stage.answer(asked, approve=False)
    done = await stage.tools.settled(asked.action_id)

    assert done.status == "denied"
    assert done.error is not None
    assert done.error.message == "It was denied: no"
    assert not (stage.workspace / "a.txt").exists()


async def test_what_nobody_answers_expires_and_never_runs(tmp_path: Path) -> None:
    async with staged(tmp_path, OpenClaw(), EvaOs(approval_ttl_s=0.05)) as stage:
        asked = await stage.tools.execute(write(follow_up=True))

        done = await stage.tools.settled(asked.action_id)

        assert done.status == "denied"
        assert done.error is not None
        assert done.error.message == "Nobody answered in time."
        assert not (stage.workspace / "a.txt").exists()


async def test_what_is_approved_and_never_fetched_lapses(tmp_path: Path) -> None:
    async with staged(tmp_path, OpenClaw(), EvaOs(approval_ttl_s=0.3)) as stage:
        asked = await stage.tools.execute(write())
        await stage.answer(asked)

        done = await stage.tools.settled(asked.action_id)

        assert done.status == "denied"
        assert not (stage.workspace / "a.txt").exists()


async def test_an_approval_that_nobody_answered_can_not_be_used(stage: Stage) -> None:
    asked = await stage.tools.execute(write())

    with pytest.raises(ApprovalUnanswered):
        await stage.tools.execute(write(approval_id=asked.approval_id))
    assert not (stage.workspace / "a.txt").exists()


async def test_who_comes_back_with_the_approval_settles_the_same_action(stage: Stage) -> None:
    asked = await stage.tools.execute(write())
    await stage.answer(asked)

    done = await stage.tools.execute(write(approval_id=asked.approval_id))

    assert done.status == "executed"
    assert done.action_id == asked.action_id
    assert await stage.tools.settled(asked.action_id) == done


@pytest.mark.parametrize(
    "other",
    [
        write(content="other\n"),
        write(path="b.txt"),
        write(session_id="ses_other"),
        Call(tool_name="file.write", args={"path": "a.txt", "content": "new\n", "mode": "append"}),
        shell("ls"),
    ],
)
async def test_t06_an_approval_is_for_that_call_and_no_other(stage: Stage, other: Call) -> None:
    asked = await stage.tools.execute(write())
    await stage.answer(asked)
    changed = msgspec.structs.replace(other, approval_id=asked.approval_id)

    with pytest.raises(ScopeMismatch):
        await stage.tools.execute(changed)

    assert list(stage.workspace.iterdir()) == []
    done = await stage.tools.execute(write(approval_id=asked.approval_id))
    assert done.status == "executed"


def swap_content(workspace: Path) -> None:
    (workspace / "a.sh").write_text("echo bad > ran")


def swap_by_rename(workspace: Path) -> None:
    (workspace / "b.sh").write_text("echo bad > ran")
    (workspace / "b.sh").rename(workspace / "a.sh")


def swap_by_link(workspace: Path) -> None:
    (workspace / "a.sh").unlink()
    (workspace / "a.sh").symlink_to("b.sh")
    (workspace / "b.sh").write_text("echo bad > ran")


def remove(workspace: Path) -> None:
    (workspace / "a.sh").unlink()


@pytest.mark.parametrize("swap", [swap_content, swap_by_rename, swap_by_link, remove])
@pytest.mark.parametrize("command", ["sh a.sh", "sh ./a.sh", "sh /workspace/a.sh", ". './a.sh'"])
async def test_t07_a_script_swapped_after_the_approval_does_not_run(
    stage: Stage, command: str, swap: Callable[[Path], None]
) -> None:
    (stage.workspace / "a.sh").write_text("echo good > ran")
    asked = await stage.tools.execute(shell(command, follow_up=True))
    swap(stage.workspace)

    await stage.answer(asked)
    done = await stage.tools.settled(asked.action_id)

    assert done.status == "failed"
    assert done.error is not None
    assert "changed since" in done.error.message
    assert not (stage.workspace / "ran").exists()
    assert await stage.facts("tool.started") == []


async def test_t07_the_caller_that_comes_back_is_checked_against_the_file_too(stage: Stage) -> None:
    (stage.workspace / "a.txt").write_text("old\n")
    asked = await stage.tools.execute(write())
    await stage.answer(asked)
    (stage.workspace / "a.txt").write_text("changed\n")

    with pytest.raises(ScopeMismatch):
        await stage.tools.execute(write(approval_id=asked.approval_id))
    assert (stage.workspace / "a.txt").read_text() == "changed\n"


async def test_t08_of_fifty_that_use_one_approval_at_once_one_runs(stage: Stage) -> None:
    call = shell("echo ran >> count")
    asked = await stage.tools.execute(call)
    await stage.answer(asked)
    again = msgspec.structs.replace(call, approval_id=asked.approval_id)

    answers = await asyncio.gather(
        *(stage.tools.execute(again) for _ in range(50)), return_exceptions=True
    )

    done = [answer for answer in answers if isinstance(answer, Outcome)]
    assert [outcome.status for outcome in done] == ["executed"]
    assert sum(isinstance(answer, SoniaError) for answer in answers) == 49
    assert (stage.workspace / "count").read_text() == "ran\n"


async def test_t08_an_approval_that_ran_by_itself_can_not_be_used_again(stage: Stage) -> None:
    call = shell("echo ran >> count", follow_up=True)
    asked = await stage.tools.execute(call)
    await stage.answer(asked)
    await stage.tools.settled(asked.action_id)

    with pytest.raises(ApprovalSettled):
        await stage.tools.execute(msgspec.structs.replace(call, approval_id=asked.approval_id))
    assert (stage.workspace / "count").read_text() == "ran\n"


async def test_two_who_asked_the_same_share_one_approval_and_one_run(stage: Stage) -> None:
    call = shell("echo ran >> count", follow_up=True)
    first, second = [await stage.tools.execute(call) for _ in range(2)]
    assert first.approval_id == second.approval_id

    await stage.answer(first)
    ends = [await stage.tools.settled(asked.action_id) for asked in (first, second)]

    assert sorted(end.status for end in ends) == ["denied", "executed"]
    assert (stage.workspace / "count").read_text() == "ran\n"


async def test_what_is_taken_back_is_denied_and_its_approval_is_void(stage: Stage) -> None:
    asked = await stage.tools.execute(write(follow_up=True))

    await stage.tools.withdraw(asked.action_id)

    assert (await stage.tools.settled(asked.action_id)).status == "denied"
    with pytest.raises(ApprovalSettled):
        await stage.answer(asked)


async def test_a_denying_rule_denies_without_asking(stage: Stage) -> None:
    await stage.control.set_policy((Rule(tool="file.*", verdict="deny"),), by="test")

    outcome = await stage.tools.execute(write())

    assert outcome.status == "denied"
    assert await stage.control.approvals() == ()


async def test_t01_what_came_from_a_page_is_asked_about_even_under_an_allowing_rule(
    stage: Stage,
) -> None:
    await stage.control.set_policy((Rule(tool="file.*", verdict="allow"),), by="test")

    mine = await stage.tools.execute(write("mine.txt"))
    theirs = await stage.tools.execute(write("theirs.txt", origins=("model", "web")))

    assert (mine.status, theirs.status) == ("executed", "approval_required")
    assert theirs.risk == 3


async def test_a_dry_run_neither_runs_nor_asks(stage: Stage) -> None:
    free = await stage.tools.execute(Call(tool_name="file.list", dry_run=True))
    guarded = await stage.tools.execute(write(dry_run=True))

    assert (free.status, guarded.status) == ("executed", "approval_required")
    assert free.result == guarded.result == {"dry_run": True}
    assert guarded.approval_id is None
    assert await stage.control.approvals() == ()
    assert await stage.facts("tool.started") == []


# --- once -----------------------------------------------------------------------------------


async def test_a_key_used_at_once_by_many_runs_once(stage: Stage) -> None:
    await stage.control.set_policy((Rule(tool="*", verdict="allow"),), by="test")
    call = shell("echo ran >> count", idempotency_key="k1")

    outcomes = await asyncio.gather(*(stage.tools.execute(call) for _ in range(20)))

    assert len({outcome.action_id for outcome in outcomes}) == 1
    assert (stage.workspace / "count").read_text() == "ran\n"


async def test_a_key_used_for_another_call_is_refused(stage: Stage) -> None:
    await stage.tools.execute(Call(tool_name="file.list", idempotency_key="k"))

    with pytest.raises(KeyReused):
        await stage.tools.execute(
            Call(tool_name="file.list", args={"path": "b"}, idempotency_key="k")
        )


async def test_a_key_whose_call_was_refused_is_free_again(stage: Stage) -> None:
    (stage.workspace / "a.txt").mkdir()
    with pytest.raises(ArgumentsInvalid):
        await stage.tools.execute(write(idempotency_key="k"))
    (stage.workspace / "a.txt").rmdir()

    assert (await stage.tools.execute(write(idempotency_key="k"))).status == "approval_required"


async def test_a_key_is_continued_by_the_approval_it_asked_for(stage: Stage) -> None:
    asked = await stage.tools.execute(write(idempotency_key="k"))
    assert (await stage.tools.execute(write(idempotency_key="k"))) == asked
    await stage.answer(asked)

    done = await stage.tools.execute(write(idempotency_key="k", approval_id=asked.approval_id))
    again = await stage.tools.execute(write(idempotency_key="k", approval_id=asked.approval_id))

    assert done.status == "executed"
    assert again == done


# --- what goes wrong ------------------------------------------------------------------------


async def test_t22_without_a_sandbox_a_command_is_refused_and_nobody_is_asked(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> str:
        raise SandboxMissing("there is no bubblewrap here")

    monkeypatch.setattr("sonia.tools.sandbox.find_bubblewrap", absent)

    outcome = await stage.tools.execute(shell("touch ran"))

    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "policy_denied"
    assert "no bubblewrap" in outcome.error.message
    assert await stage.control.approvals() == ()
    assert (await stage.tools.probe())["sandbox"] == "there is no bubblewrap here"


async def test_a_command_that_takes_too_long_is_a_timeout_with_what_it_said(stage: Stage) -> None:
    await stage.control.set_policy((Rule(tool="*", verdict="allow"),), by="test")

    outcome = await stage.tools.execute(shell("echo begun; sleep 600", timeout_ms=1_000))

    assert outcome.status == "timeout"
    assert outcome.result is not None
    assert outcome.result["stdout"] == "begun\n"
    assert outcome.error is not None
    assert outcome.error.code == "upstream_timeout"


async def test_leaving_a_call_kills_the_command_and_writes_that_down(stage: Stage) -> None:
    await stage.control.set_policy((Rule(tool="*", verdict="allow"),), by="test")
    before = set(psutil.Process().children(recursive=True))
    os.mkfifo(stage.workspace / "begun")
    running = asyncio.create_task(stage.tools.execute(shell("echo yes > begun; sleep 60")))
    assert await asyncio.to_thread((stage.workspace / "begun").read_text) == "yes\n"

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    left = set(psutil.Process().children(recursive=True)) - before
    assert (await asyncio.to_thread(psutil.wait_procs, left, timeout=60))[1] == []
    (outcome,) = await stage.tools.actions()
    assert outcome.status == "failed"
    assert (await stage.facts("tool.finished"))[0]["status"] == "failed"


async def test_r20_leaving_the_tools_stops_what_runs_and_writes_that_down(tmp_path: Path) -> None:
    async with staged(tmp_path, OpenClaw()) as stage:
        await stage.control.set_policy((Rule(tool="*", verdict="allow"),), by="test")
        os.mkfifo(stage.workspace / "begun")
        running = asyncio.create_task(stage.tools.execute(shell("echo yes > begun; sleep 60")))
        assert await asyncio.to_thread((stage.workspace / "begun").read_text) == "yes\n"

    with pytest.raises(Unavailable, match="stopping"):
        await running
    with pytest.raises(Unavailable, match="stopping"):
        await stage.tools.execute(shell("ls"))
    async with staged(tmp_path, OpenClaw()) as after:
        (outcome,) = await after.tools.actions()
        assert outcome.status == "failed"
        assert (await after.facts("tool.finished"))[0]["status"] == "failed"


async def test_no_ledger_no_risk_but_reading_goes_on(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await stage.control.set_policy((Rule(tool="*", verdict="allow"),), by="test")

    async def down(kind: str, data: dict[str, Any]) -> None:
        raise LedgerDown("The ledger can't be written.")

    monkeypatch.setattr(stage.control, "record", down)

    written = await stage.tools.execute(write())
    listed = await stage.tools.execute(Call(tool_name="file.list"))

    assert written.status == "failed"
    assert written.error is not None
    assert written.error.code == "unavailable"
    assert not (stage.workspace / "a.txt").exists()
    assert listed.status == "executed"


async def test_a_tool_that_breaks_is_a_failure_and_not_a_crash(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(expression: str) -> int:
        raise RuntimeError("sk-secret0123456789")

    monkeypatch.setattr("sonia.tools.builtin.math_evaluate.evaluate", broken)

    outcome = await stage.tools.execute(Call(tool_name="math.evaluate", args={"expression": "1"}))

    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.code == "internal"
    assert "secret" not in outcome.error.message


async def test_t43_a_secret_in_a_result_is_returned_and_not_stored(stage: Stage) -> None:
    secret = "sk-abcdefghijklmnop"
    (stage.workspace / "key.txt").write_text(secret)
    call = Call(tool_name="file.read", args={"path": "key.txt"})

    outcome = await stage.tools.execute(call)
    asked = await stage.tools.execute(shell(f"echo {secret} > a"))

    assert outcome.result is not None
    assert outcome.result["content"] == secret
    for stored in await stage.tools.actions():
        assert secret not in repr(stored)
    for fact in await stage.facts("tool.started"):
        assert secret not in repr(fact)
    assert asked.approval_id is not None


async def test_an_action_that_waited_at_a_restart_is_denied(tmp_path: Path) -> None:
    async with staged(tmp_path, OpenClaw()) as before:
        asked = await before.tools.execute(write(follow_up=True))

    async with staged(tmp_path, OpenClaw()) as after:
        done = await after.tools.settled(asked.action_id)

        assert done.status == "denied"
        assert not (after.workspace / "a.txt").exists()


@pytest.mark.parametrize("place", ["sonia.toml", "venv", ".", "link/venv"])
async def test_t27_a_workspace_that_holds_what_is_sonias_own_is_refused(
    tmp_path: Path, place: str
) -> None:
    workspace = tmp_path / "workspace"
    (workspace / "venv").mkdir(parents=True)
    (tmp_path / "link").symlink_to(workspace)
    own = tmp_path / place if place.startswith("link") else workspace / place

    async with (
        open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
    ):
        with pytest.raises(ConfigurationError, match="Sonia's own"):
            async with open_tools(OpenClaw(), control, db, workspace, own=(own,)):
                pass


async def test_a_workspace_that_holds_the_data_folder_is_refused(tmp_path: Path) -> None:
    async with (
        open_database(tmp_path / "data" / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
    ):
        for workspace in (tmp_path, tmp_path / "data", tmp_path / "data" / "inside"):
            with pytest.raises(ConfigurationError, match="workspace"):
                async with open_tools(OpenClaw(), control, db, workspace):
                    pass
