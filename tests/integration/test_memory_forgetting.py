"""What is forgotten is in no file, whoever kept it, whatever happened in between."""

from __future__ import annotations

import asyncio
import datetime as dt
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import msgspec
import pytest

from sonia.app import ELSEWHERE, PLACES
from sonia.config import EvaOs, MemoryEngine, OpenClaw
from sonia.control import Control, open_control
from sonia.db import Database, connect, open_database
from sonia.errors import InvalidRequest, StorageFull
from sonia.events import Bus, Forgotten, TurnFinished
from sonia.forgetting import apply_tombstones, read_tombstones, tombstones, write_tombstones
from sonia.memory import (
    Change,
    EntryNotFound,
    Forget,
    NewDocument,
    NewMemory,
    Query,
    ReceiptNotFound,
    Source,
    SqliteMemory,
    open_memory,
)
from sonia.memory import forgetting as module
from sonia.phrases import words
from sonia.tools import Call, Tools, open_tools
from sonia.types import MemoryId, now
from tests.integration.memory_forgetter import SECRET, STEPS
from tests.memory_given import MIGRATIONS, NASTY, HashingEmbedder, opened

ROOT = Path(__file__).parent.parent.parent
WORD = "Xylographer"
STEM = b"xylograph"


class House(msgspec.Struct):
    """Every part that keeps words, over one data folder."""

    folder: Path
    db: Database
    bus: Bus
    memory: SqliteMemory
    control: Control
    tools: Tools

    async def said(
        self, text: str, answer: str = "I see.", *, user: str = "owner", session: str = "ses_1"
    ) -> str:
        turn = TurnFinished(
            session_id=session,
            turn_id=f"turn_{abs(hash((text, user, session))):x}",
            user_id=user,
            text=text,
            response=answer,
            complete=True,
            at=now(),
        )
        await self.memory.open_session(session, user_id=user)
        await self.memory.remember_turn(turn)
        return turn.turn_id


@asynccontextmanager
async def house(folder: Path, approval_ttl_s: float = 300) -> AsyncIterator[House]:
    bus = Bus()
    (folder / "workspace").mkdir(exist_ok=True)
    (folder / "workspace" / "diary.txt").write_text(f"the {WORD} came by")
    data = folder / "data"
    async with (
        open_database(data / "sonia.db", MIGRATIONS) as db,
        open_control(EvaOs(approval_ttl_s=approval_ttl_s), db) as control,
        open_memory(
            MemoryEngine(), db, HashingEmbedder(), bus, data / "text-index", places=ELSEWHERE
        ) as memory,
        open_tools(OpenClaw(), control, db, folder / "workspace") as tools,
    ):
        yield House(folder, db, bus, memory, control, tools)


def residue(folder: Path, *needles: bytes) -> list[str]:
    """Files below `folder` that hold one of these, in any case."""
    return [
        f"{path.relative_to(folder)}: {needle!r}"
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        for needle in needles
        if needle.lower() in path.read_bytes().lower()
    ]


async def vector_of(text: str) -> bytes:
    return (await HashingEmbedder().embed([text])).tobytes()


async def filled(all_: House) -> None:
    """The word, in every place that there is."""
    await all_.said(f"My neighbour is a {WORD} from Faro", f"A {WORD}, how rare!")
    await all_.said("My dog is called Biscuit")
    kept = await all_.memory.store(NewMemory(type="fact", content=f"{WORD} Street is closed"))
    await all_.memory.change(kept.id, Change(content="The street is closed"))
    await all_.memory.store(
        NewMemory(type="fact", content="Ink is sold out", metadata={"who": [f"the {WORD}"]})
    )
    await all_.memory.append("app.note", {"text": f"call the {WORD}\nback"})
    await all_.memory.open_session("ses_noted", metadata={"title": f"about the {WORD}"})
    await all_.memory.snapshot("ses_1", name=f"with the {WORD}")
    read = await all_.tools.execute(
        Call(tool_name="file.read", args={"path": "diary.txt"}, session_id="ses_1")
    )
    assert WORD in str(read.result)
    asked = await all_.tools.execute(
        Call(
            tool_name="file.write",
            args={"path": "a.txt", "content": f"Dear {WORD}"},
            session_id="ses_1",
        )
    )
    assert asked.status == "approval_required"
    (all_.folder / "data" / "sonia.db.before-0005").write_text(f"an old copy: {WORD}")


async def test_an_entity_is_forgotten_in_every_file(tmp_path: Path) -> None:
    told: list[Forgotten] = []

    async def listen(fact: Forgotten) -> None:
        told.append(fact)

    async with house(tmp_path) as all_:
        all_.bus.subscribe(Forgotten, listen)
        await filled(all_)
        await all_.memory.settled()
        vector = await vector_of(f"My neighbour is a {WORD} from Faro")
        assert len(residue(tmp_path / "data", STEM)) >= 2
        assert residue(tmp_path / "data", vector[:48])

        receipt = await all_.memory.erase(Forget(entity=WORD.lower()), wait_s=60)

        assert residue(tmp_path / "data", STEM, vector[:48]) == []
        assert receipt.state == "done"
        assert receipt.erased == {
            "memories": 3,
            "versions": 1,
            "events": 3,
            "sessions": 1,
            "snapshots": 4,
            "approvals": 1,
            "actions": 2,
            "audit": receipt.erased["audit"],
            "copies": 1,
        }
        assert WORD.lower() not in msgspec.json.encode(receipt).decode().lower()
        (snapshot,) = await all_.memory.snapshots()
        assert (snapshot.name, snapshot.utterances, snapshot.memories) == ("", 2, 1)
        assert (await all_.control.verify_ledger()).ok
        (approval,) = await all_.control.approvals()
        assert approval.state == "cancelled"
        assert [action.result for action in await all_.tools.actions()] == [{"erased": True}] * 2
        history = await all_.memory.history("ses_1")
        assert [said.content for said in history] == ["My dog is called Biscuit", "I see."]
        found = await all_.memory.search(Query(query="my dog neighbour"))
        assert [hit.entry.content for hit in found.hits] == ["My dog is called Biscuit"]
        assert [fact.user_ids for fact in told] == [("owner",)]

    assert residue(tmp_path / "data", STEM) == []


async def test_forgetting_twice_is_forgetting_once(tmp_path: Path) -> None:
    async with house(tmp_path) as all_:
        await filled(all_)
        first, second = await asyncio.gather(
            *(all_.memory.erase(Forget(entity=WORD), wait_s=60) for _ in range(2))
        )
        third = await all_.memory.erase(Forget(entity=WORD), wait_s=60)

    assert sum(one.erased.get("memories", 0) for one in (first, second)) == 3
    assert third.erased == {}
    assert {first.state, second.state, third.state} == {"done"}


async def test_a_person_is_forgotten_and_nobody_else(tmp_path: Path) -> None:
    async with house(tmp_path) as all_:
        await all_.said("I live in Tavira by the sea", user="ada", session="ses_ada")
        await all_.memory.store(
            NewMemory(type="fact", content="The moon is full tonight", user_id="ada")
        )
        await all_.said("I live in Tavira by the sea", user="bob", session="ses_bob")
        for session in ("ses_ada", "ses_bob"):
            await all_.memory.snapshot(session)
        await all_.memory.append("app.note", {"a": "I live in Tavira by the sea"}, user_id="bob")
        for session in ("ses_ada", "ses_bob"):
            await all_.tools.execute(
                Call(tool_name="file.read", args={"path": "diary.txt"}, session_id=session)
            )
        before = await all_.memory.search(Query(query="Tavira", user_id="bob"))

        receipt = await all_.memory.erase(Forget(user_id="ada"), wait_s=60)

        assert receipt.erased["memories"] == 2
        assert (await all_.memory.search(Query(query="Tavira", user_id="ada"))).hits == ()
        again = await all_.memory.search(Query(query="Tavira", user_id="bob"))
        assert [hit.entry for hit in again.hits] == [hit.entry for hit in before.hits] != []
        assert await all_.memory.history("ses_ada") == ()
        assert len(await all_.memory.history("ses_bob")) == 2
        (snapshot,) = await all_.memory.snapshots()
        assert (snapshot.user_id, snapshot.utterances, snapshot.memories) == ("bob", 2, 1)
        assert {session.id for session in await all_.memory.sessions()} == {"ses_bob"}
        notes = await all_.memory.events(kind="app.note")
        assert [note.data for note in notes] == [{"a": "I live in Tavira by the sea"}]
        actions = await all_.tools.actions()
        assert sorted("erased" in (action.result or {}) for action in actions) == [False, True]
        names = {event.user_id for event in await all_.memory.events(limit=1000)}
        assert names == {"owner", "bob", "forgotten"}
        assert (await all_.control.verify_ledger()).ok
        assert residue(tmp_path / "data", b"moon is full", b"ses_ada") == []
        assert residue(tmp_path / "data", b"Tavira") != []


async def test_what_was_done_outside_of_sessions_is_the_owners(tmp_path: Path) -> None:
    async with house(tmp_path) as all_:
        await all_.tools.execute(Call(tool_name="file.read", args={"path": "diary.txt"}))
        await all_.memory.store(NewMemory(type="fact", content="Ink is out", user_id="ada"))

        theirs = await all_.memory.erase(Forget(user_id="ada"), wait_s=60)
        kept = residue(tmp_path / "data", STEM)
        mine = await all_.memory.erase(Forget(user_id="owner"), wait_s=60)

        assert (theirs.erased["memories"], "actions" in theirs.erased) == (1, False)
        assert kept != []
        assert mine.erased["actions"] == 1
        assert residue(tmp_path / "data", STEM, b"diary") == []
        assert (await all_.control.verify_ledger()).ok


async def test_a_session_is_forgotten_with_what_was_made_of_it(tmp_path: Path) -> None:
    async with house(tmp_path) as all_:
        await all_.said(f"My neighbour is a {WORD} from Faro", session="ses_a")
        await all_.said("My dog is called Biscuit", session="ses_b")
        (found,) = (await all_.memory.search(Query(query=WORD, mode="text"))).hits
        await all_.memory.store(
            NewMemory(
                type="summary",
                content=f"All about a {WORD}",
                source=Source(said_by="assistant", made_from=(found.entry.id,)),
            )
        )

        receipt = await all_.memory.erase(Forget(session_id="ses_a"), wait_s=60)

        assert (receipt.what, receipt.erased["memories"]) == ("session", 2)
        assert residue(tmp_path / "data", STEM) == []
        assert len(await all_.memory.history("ses_b")) == 2


async def test_forgetting_a_memory_takes_its_words_from_elsewhere(tmp_path: Path) -> None:
    async with house(tmp_path) as all_:
        kept = await all_.memory.store(NewMemory(type="fact", content=f"The {WORD} came by"))
        theirs = await all_.memory.store(
            NewMemory(type="fact", content="He came by", user_id="ada")
        )
        await all_.said("hello", session="ses_a")
        await all_.memory.store(
            NewMemory(type="fact", content=f"The {WORD} came by.", session_id="ses_a")
        )
        await all_.memory.snapshot("ses_a")
        await all_.memory.erase(Forget(session_id="ses_a"))
        assert await all_.memory.snapshots() == ()
        await all_.tools.execute(Call(tool_name="file.read", args={"path": "diary.txt"}))
        await all_.memory.append("app.note", {"heard": f'"the {WORD}  came by", they said'})

        await all_.memory.forget(kept.id)
        await all_.memory.settled()

        assert residue(tmp_path / "data", STEM) == []
        assert (await all_.memory.recall(theirs.id)).content == "He came by"
        with pytest.raises(EntryNotFound):
            await all_.memory.forget(kept.id)


async def test_another_persons_memory_is_not_forgotten_for_me(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        hers = await memory.store(NewMemory(type="fact", content="I live in Rome", user_id="ada"))

        receipt = await memory.erase(Forget(memory_ids=(hers.id,), user_id="bob"))
        await memory.erase(Forget(entity="Rome", user_id="bob"))
        await memory.erase(Forget(entity="Rome"))

        assert receipt.erased == {}
        assert await memory.recall(hers.id) == hers


@pytest.mark.parametrize(
    "what",
    [
        Forget(),
        Forget(memory_ids=(MemoryId("mem_1"),), session_id="ses_1"),
        Forget(entity="x", session_id="ses_1"),
        Forget(entity=" -!?- "),
    ],
)
async def test_what_is_meant_must_be_clear(tmp_path: Path, what: Forget) -> None:
    async with opened(tmp_path) as memory:
        await memory.store(NewMemory(type="fact", content="x marks the spot"))

        with pytest.raises(InvalidRequest):
            await memory.erase(what)

        assert (await memory.stats()).memories == 1
        with pytest.raises(ReceiptNotFound):
            await memory.receipt("fgt_none")


async def test_forgetting_ends_however_much_is_written_meanwhile(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        await memory.store(NewMemory(type="fact", content=f"The {WORD} came by"))
        await memory.settled()
        forgotten = asyncio.Event()

        async def keep_storing() -> None:
            while not forgotten.is_set():
                await memory.store(NewMemory(type="fact", content="It rains"))

        storing = [asyncio.create_task(keep_storing()) for _ in range(4)]
        receipt = await memory.erase(Forget(entity=WORD), wait_s=60)
        while receipt.state != "done":
            await asyncio.sleep(0)
            receipt = await memory.receipt(receipt.id)
        forgotten.set()
        await asyncio.gather(*storing)

    assert receipt.erased == {"memories": 1}
    assert residue(tmp_path, STEM) == []


async def test_a_document_is_forgotten_with_what_quotes_it(tmp_path: Path) -> None:
    line = f"Whoever asks for the {WORD} should ring twice and then wait by the blue gate."
    async with house(tmp_path) as all_:
        async with all_.memory.incoming() as incoming:
            await incoming.write(f"# Gates\n\nBring a lamp. {line}\n".encode())
            made = await all_.memory.ingest(incoming, NewDocument(name="gates.md"))
        (chunk,) = await all_.memory.chunks(made.document.id)
        await all_.memory.store(
            NewMemory(
                type="summary",
                content=f"Of the {WORD}'s gate",
                source=Source(said_by="assistant", made_from=(chunk.id,)),
            )
        )
        await all_.said("What should I do at the gate?", f"It says: {line[:60]}", session="ses_a")
        await all_.memory.append("app.note", {"a": "should ring twice"})
        await all_.memory.settled()
        assert residue(tmp_path / "data", STEM) != []

        receipt = await all_.memory.erase(Forget(document_id=made.document.id), wait_s=60)
        again = await all_.memory.erase(Forget(document_id=made.document.id), wait_s=60)

        assert (receipt.what, receipt.state, again.erased) == ("document", "done", {})
        assert receipt.erased == {"documents": 1, "chunks": 1, "memories": 1, "events": 1}
        assert residue(tmp_path / "data", STEM) == []
        (note,) = await all_.memory.events(kind="app.note")
        assert note.data == {"a": "should ring twice"}
        (told, _) = await all_.memory.events(kind="memory.forgotten")
        assert told.data["id"] == made.document.id


@pytest.mark.parametrize("step", STEPS)
async def test_a_kill_at_any_step_leaves_nothing_once_started_again(
    tmp_path: Path, step: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.integration.memory_forgetter",
        str(tmp_path),
        step,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert await process.wait() == -9
    assert residue(tmp_path, STEM) or step == "done"

    async with opened(tmp_path) as memory:
        found = await memory.search(Query(query="xylographer safe tea"))
        assert [hit.entry.content for hit in found.hits] == ["My other word is tea"]
        await memory.settled()

        assert residue(tmp_path, STEM, await vector_of(SECRET)) == []
        (event,) = await memory.events(kind="memory.forgotten")
        assert (await memory.receipt(event.data["receipt"])).state == "done"


async def backup(folder: Path, target: Path) -> None:
    def copy() -> None:
        connection = apsw.Connection(str(folder / "sonia.db"), flags=apsw.SQLITE_OPEN_READONLY)
        connection.execute("VACUUM INTO ?", (str(target),))
        connection.close()

    await asyncio.to_thread(copy)


async def test_a_restored_backup_forgets_what_was_forgotten_since(tmp_path: Path) -> None:
    saved = tmp_path / "backup" / "sonia.db"
    saved.parent.mkdir()
    async with house(tmp_path) as all_:
        await filled(all_)
        await all_.said("I live in Tavira by the sea", user="ada", session="ses_ada")
        single = await all_.memory.store(NewMemory(type="fact", content="The code is 1815"))
        all_.memory.touch([single.id])
        await all_.memory.settled()
        await backup(tmp_path / "data", saved)
        await all_.memory.erase(Forget(entity=WORD), wait_s=60)
        await all_.memory.erase(Forget(user_id="ada"), wait_s=60)
        await all_.memory.forget(single.id)
        await all_.memory.settled()
        await all_.said("I am back and live in Lagos", user="ada", session="ses_ada2")
        known = await all_.db.read(tombstones)
    lines = (tmp_path / "data" / "tombstones").read_bytes()
    assert read_tombstones(lines) == known == read_tombstones(write_tombstones(known) + b"torn")
    assert residue(saved.parent, STEM, b"Tavira", b"1815") != []

    def restore() -> dict[str, int]:
        connection = connect(saved)
        with connection:
            (before,) = connection.execute("SELECT count(*) FROM memory_access").fetchone() or ()
            counts = apply_tombstones(connection, known, PLACES)
            (after,) = connection.execute("SELECT count(*) FROM memory_access").fetchone() or ()
        assert (before, after) == (1, 0), "how often it was used goes with the memory"
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.close()
        return counts

    counts = await asyncio.to_thread(restore)

    assert counts["memories"] == 5
    assert residue(saved.parent, STEM, b"Tavira", b"code is 1815") == []
    async with opened(saved.parent) as memory:
        found = await memory.search(Query(query=f"dog {WORD} Tavira code"))
        assert [hit.entry.content for hit in found.hits] == ["My dog is called Biscuit"]


async def test_what_was_said_after_a_person_was_forgotten_stays_in_a_later_backup(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as all_:
        await all_.said("I live in Tavira by the sea", user="ada", session="ses_ada")
        await all_.memory.erase(Forget(user_id="ada"))
        await all_.said("I am back and live in Lagos", user="ada", session="ses_ada")

        known = await all_.db.read(tombstones)
        counts = await all_.db.write(lambda c: apply_tombstones(c, known, PLACES))

        assert counts == {}
        (hit,) = (await all_.memory.search(Query(query="Lagos", user_id="ada"))).hits
        assert hit.entry.recorded_at <= now() + dt.timedelta(seconds=1)
        assert len(await all_.memory.history("ses_ada")) == 2


async def test_what_was_said_in_a_closed_session_leaves_the_files_and_restored_backups(
    tmp_path: Path,
) -> None:
    saved = tmp_path / "backup" / "sonia.db"
    saved.parent.mkdir()
    async with house(tmp_path) as all_:
        await all_.said(f"Who is the {WORD}?", session="ses_a")
        await backup(tmp_path / "data", saved)

        await all_.memory.close_session("ses_a")
        await all_.memory.settled()

        assert residue(tmp_path / "data", STEM) == []
        known = await all_.db.read(tombstones)
    async with open_database(saved, MIGRATIONS) as db:
        counts = await db.write(lambda c: apply_tombstones(c, known, PLACES))
    assert counts == {"events": 2}


@pytest.mark.parametrize("name", [name for name in NASTY if words(name)])
async def test_t42_no_name_is_syntax_when_it_is_forgotten(tmp_path: Path, name: str) -> None:
    async with house(tmp_path) as all_:
        await all_.memory.store(NewMemory(type="note", content=f"about {name} here"))
        await all_.memory.store(NewMemory(type="note", content="about something else"))

        receipt = await all_.memory.erase(Forget(entity=name))

        assert receipt.erased == {"memories": 1}
        assert (await all_.memory.stats()).memories == 1


async def test_an_action_that_waited_does_not_bring_the_words_back(tmp_path: Path) -> None:
    async with house(tmp_path, approval_ttl_s=1) as all_:
        asked = await all_.tools.execute(
            Call(
                tool_name="file.write",
                args={"path": "a.txt", "content": WORD},
                session_id="ses_1",
                follow_up=True,
            )
        )
        await all_.memory.erase(Forget(entity=WORD), wait_s=60)

        await all_.tools.settled(asked.action_id)

        kept = await all_.tools.action(asked.action_id)
        assert (kept.status, kept.preview) == ("denied", None)
        assert not (tmp_path / "workspace" / "a.txt").exists()
    assert residue(tmp_path / "data", STEM) == []


async def test_a_full_disk_puts_forgetting_off_and_does_not_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("The disk is full.")

    async with opened(tmp_path) as memory:
        await memory.store(NewMemory(type="fact", content=f"The {WORD} came by"))
        monkeypatch.setattr(module, "erase", full)
        with pytest.raises(StorageFull):
            await memory.erase(Forget(entity=WORD))

    async with opened(tmp_path) as memory:
        assert (await memory.stats()).memories == 1
        monkeypatch.undo()
        await memory.settled()
        assert (await memory.stats()).memories == 0
    assert residue(tmp_path, STEM) == []
