"""What was done to files can be taken back, as long as nobody has changed them since."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sonia.config import EvaOs, OpenClaw
from sonia.control import Control, Rule, open_control
from sonia.db import Database, open_database
from sonia.errors import SoniaError
from sonia.events import Forgotten
from sonia.forgetting import Scope, erase
from sonia.tools import (
    PLACES,
    ArgumentsInvalid,
    Call,
    FileChanged,
    GuardedTools,
    NotUndoable,
    Outcome,
    open_tools,
)
from sonia.tools.paths import PathRefused

MIGRATIONS = Path(__file__).parents[2] / "migrations"


class Stage(msgspec.Struct):
    """Tools that may write without being asked about."""

    tools: GuardedTools
    control: Control
    db: Database
    workspace: Path
    trash: Path

    async def do(self, tool: str, **args: Any) -> Outcome:
        outcome = await self.tools.execute(Call(tool_name=tool, args=args, session_id="ses_1"))
        if outcome.approval_id:
            await self.control.settle(outcome.approval_id, approve=True, by="test")
            call = Call(
                tool_name=tool, args=args, approval_id=outcome.approval_id, session_id="ses_1"
            )
            outcome = await self.tools.execute(call)
        assert outcome.status == "executed", outcome
        return outcome

    async def undo(self, outcome: Outcome) -> Outcome:
        return await self.tools.undo(outcome.action_id, by="test")


@contextlib.asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    data, workspace = folder / "data", folder / "workspace"
    async with (
        open_database(data / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(), db) as control,
        open_tools(OpenClaw(), control, db, workspace) as tools,
    ):
        await control.set_policy((Rule(tool="file.*", verdict="allow"),), by="test")
        yield Stage(tools, control, db, workspace, data / "trash")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with staged(tmp_path) as opened:
        yield opened


def tree(folder: Path) -> str:
    """A digest of every name, kind, mode, time and content below a folder."""
    whole = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        target = str(path.readlink()) if path.is_symlink() else ""
        changed = 0 if path.is_dir() else found.st_mtime_ns
        facts = (str(path.relative_to(folder)), found.st_mode, changed, target, content)
        whole.update(repr(facts).encode())
    return whole.hexdigest()


async def test_t28_a_thousand_files_deleted_and_undone_leave_the_same_tree(stage: Stage) -> None:
    photos = stage.workspace / "photos"
    for number in range(1_000):
        folder = photos / f"{number % 20}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.jpg").write_bytes(b"%d" % number)
    (photos / "5" / "5.jpg").chmod(0o600)
    (photos / "link").symlink_to("/etc")
    before = tree(stage.workspace)

    deleted = await stage.do("file.delete", path="photos")
    gone = list(stage.workspace.iterdir())
    undone = await stage.undo(deleted)

    assert gone == []
    assert deleted.preview is not None
    assert "1001 files and 20 folders" in deleted.preview
    assert deleted.risk == 3
    assert deleted.undoable
    assert deleted.verification == {"ok": True}
    assert undone.status == "undone"
    assert undone.result is not None
    assert undone.result["files"] == 1_001
    assert tree(stage.workspace) == before
    assert list(stage.trash.iterdir()) == []
    assert await stage.tools.action(deleted.action_id) == undone
    kinds = [row.kind for row in await stage.control.ledger()]
    assert kinds[-2:] == ["undo.started", "undo.finished"]


@pytest.mark.parametrize(
    "path", [".", "./", "./.", "/", "", "~", "~/", "..", "a/..", "C:\\", "c:/", "/home", "//x/y"]
)
async def test_t28_roots_homes_and_drives_are_never_deleted(stage: Stage, path: str) -> None:
    (stage.workspace / "a").mkdir()

    with pytest.raises(PathRefused):
        await stage.tools.execute(Call(tool_name="file.delete", args={"path": path}))

    assert (stage.workspace / "a").is_dir()


async def test_t28_a_link_is_deleted_and_what_it_leads_to_stays(
    stage: Stage, tmp_path: Path
) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("kept")
    (stage.workspace / "link").symlink_to(tmp_path / "kept")

    await stage.do("file.delete", path="link")
    with pytest.raises(SoniaError):
        await stage.tools.execute(Call(tool_name="file.delete", args={"path": "link/file"}))

    assert (tmp_path / "kept" / "file").read_text() == "kept"
    assert list(stage.workspace.iterdir()) == []


async def test_t07_a_folder_that_changed_after_the_approval_is_not_deleted(stage: Stage) -> None:
    await stage.control.set_policy((), by="test")
    (stage.workspace / "notes").mkdir()
    (stage.workspace / "notes" / "a").write_text("a")
    call = Call(tool_name="file.delete", args={"path": "notes"}, follow_up=True)
    asked = await stage.tools.execute(call)
    assert asked.approval_id
    (stage.workspace / "notes" / "b").write_text("b")

    await stage.control.settle(asked.approval_id, approve=True, by="test")
    settled = await stage.tools.settled(asked.action_id)

    assert settled.status == "failed"
    assert settled.error is not None
    assert "changed" in settled.error.message
    assert len(list((stage.workspace / "notes").iterdir())) == 2


@pytest.mark.parametrize(
    ("args", "written"),
    [
        ({"content": "new"}, "new"),
        ({"content": "new", "mode": "append"}, "one two threenew"),
        ({"content": "2", "mode": "edit", "find": "two"}, "one 2 three"),
    ],
)
async def test_what_was_written_is_taken_back(
    stage: Stage, args: dict[str, str], written: str
) -> None:
    file = stage.workspace / "a.txt"
    file.write_text("one two three")
    file.chmod(0o640)

    done = await stage.do("file.write", path="a.txt", **args)
    now = file.read_text()
    await stage.undo(done)

    assert now == written
    assert file.read_text() == "one two three"
    assert file.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_was_made_is_removed_again(stage: Stage) -> None:
    done = await stage.do("file.write", path="new.txt", content="x", mode="create")

    await stage.undo(done)

    assert list(stage.workspace.iterdir()) == []


async def test_an_edit_shows_what_changes_and_must_be_plain(stage: Stage) -> None:
    (stage.workspace / "a.txt").write_text("one\ntwo\ntwo\nthree\n")

    edit = {"path": "a.txt", "content": "3", "mode": "edit"}
    plan = await stage.tools.plan("file.write", {**edit, "find": "three"})

    assert plan.preview.startswith("Edit a.txt")
    assert "-three\n+3\n" in plan.preview
    for wrong in ({"find": "two"}, {"find": "four"}, {"find": ""}, {}):
        with pytest.raises(ArgumentsInvalid):
            await stage.tools.plan("file.write", {**edit, **wrong})
    with pytest.raises(ArgumentsInvalid):
        await stage.tools.plan("file.write", {**edit, "mode": "append", "find": "three"})


async def test_what_somebody_changed_since_is_not_overwritten(stage: Stage) -> None:
    file = stage.workspace / "a.txt"
    file.write_text("old")
    done = await stage.do("file.write", path="a.txt", content="new")
    file.write_text("by hand")

    with pytest.raises(FileChanged):
        await stage.undo(done)

    assert file.read_text() == "by hand"
    file.write_text("new")
    assert (await stage.undo(done)).status == "undone"
    assert file.read_text() == "old"


async def test_what_is_at_the_old_place_now_is_not_overwritten(stage: Stage) -> None:
    (stage.workspace / "d").mkdir()
    (stage.workspace / "d" / "a").write_text("old")
    done = await stage.do("file.delete", path="d")
    (stage.workspace / "d").mkdir()

    with pytest.raises(SoniaError, match="Move it away"):
        await stage.undo(done)

    (stage.workspace / "d").rmdir()
    assert (await stage.undo(done)).status == "undone"
    assert (stage.workspace / "d" / "a").read_text() == "old"


async def test_of_many_who_undo_at_once_one_does(stage: Stage) -> None:
    (stage.workspace / "a").write_text("old")
    done = await stage.do("file.delete", path="a")

    answers = await asyncio.gather(*(stage.undo(done) for _ in range(8)), return_exceptions=True)

    assert sum(isinstance(answer, Outcome) for answer in answers) == 1
    assert sum(isinstance(answer, NotUndoable) for answer in answers) == 7
    with pytest.raises(NotUndoable, match="already"):
        await stage.undo(done)


async def test_what_only_reads_can_not_be_undone(stage: Stage) -> None:
    read = await stage.do("file.list")

    assert not read.undoable
    with pytest.raises(NotUndoable):
        await stage.undo(read)


async def test_undoing_is_possible_after_a_restart_and_not_for_ever(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for name in ("kept", "old"):
            (stage.workspace / name).write_text(name)
        kept, old = [await stage.do("file.delete", path=name) for name in ("kept", "old")]
        await stage.db.write(
            lambda c: c.execute(
                "UPDATE tools_undo SET created_at = '2001-01-01T00:00:00.000Z' WHERE action_id = ?",
                (old.action_id,),
            ).fetchall()
        )

    async with staged(tmp_path) as stage:
        await stage.undo(kept)
        await stage.tools.tidy()
        with pytest.raises(NotUndoable, match="30 days"):
            await stage.undo(old)

    assert [path.name for path in stage.workspace.iterdir()] == ["kept"]
    assert list(stage.trash.iterdir()) == []


async def test_what_is_forgotten_is_in_no_journal_and_no_trash(stage: Stage) -> None:
    for name in ("grey", "other"):
        (stage.workspace / f"{name}.txt").write_text(f"the {name} heron")
    written = await stage.do("file.write", path="grey.txt", content="nothing", mode="replace")
    other = await stage.do("file.write", path="other.txt", content="nothing", mode="replace")
    (stage.workspace / "bin.txt").write_text("a grey heron nests")
    deleted = await stage.do("file.delete", path="bin.txt")
    scope = Scope(receipt="r", users={"owner"})
    scope.phrases.add("grey heron")

    counts = (await stage.db.write(lambda c: erase(c, scope, PLACES))).counts
    await stage.tools.forget(Forgotten(receipt="r", user_ids=("owner",)))

    assert counts["undo"] == 2
    for gone in (written, deleted):
        with pytest.raises(NotUndoable):
            await stage.undo(gone)
    assert list(stage.trash.iterdir()) == []
    assert (await stage.undo(other)).status == "undone"


async def test_t28_without_a_rename_that_refuses_nothing_is_moved_over(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sonia.tools.trash.sys.platform", "darwin")
    (stage.workspace / "a").write_text("old")
    done = await stage.do("file.delete", path="a")
    (stage.workspace / "a").write_text("new")

    with pytest.raises(SoniaError, match="Move it away"):
        await stage.undo(done)

    assert (stage.workspace / "a").read_text() == "new"
    os.remove(stage.workspace / "a")  # noqa: PTH107
    assert (await stage.undo(done)).status == "undone"
