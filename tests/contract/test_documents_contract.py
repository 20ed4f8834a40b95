"""What everyone may rely on of `Documents`: whole or not at all, found, told, and erased."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sonia.config import Documents as Settings
from sonia.config import MemoryEngine
from sonia.errors import PayloadTooLarge, StorageFull
from sonia.memory import (
    DocumentNotFound,
    Documents,
    EntryNotFound,
    Forget,
    Ingested,
    NewDocument,
    NewMemory,
    Query,
    SqliteMemory,
)
from sonia.memory.documents import keeping, shelf, sweeping
from sonia.parsing import NotReadable
from tests.documents_given import REFUSED, docx, pdf
from tests.memory_given import NASTY, Clock, opened

GARDEN = "# Beds\n\nTomatoes want sun.\n\n## North\n\nMoss wants shade.\n"


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[SqliteMemory]:
    async with opened(tmp_path) as memory:
        assert isinstance(memory, Documents)
        yield memory


async def bring(memory: SqliteMemory, content: str | bytes, **told: Any) -> Ingested:
    async with memory.incoming() as incoming:
        await incoming.write(content.encode() if isinstance(content, str) else content)
        return await memory.ingest(incoming, NewDocument(**told))


async def words_found(memory: SqliteMemory, words: str, **query: Any) -> list[str]:
    found = await memory.search(Query(query=words, mode="text", **query))
    return [hit.entry.content for hit in found.hits]


async def test_a_document_is_found_by_its_words_and_says_where_they_stand(
    memory: SqliteMemory,
) -> None:
    made = await bring(memory, GARDEN, name="garden.md", source="notes/garden.md")

    (hit,) = (await memory.search(Query(query="moss", types=("document",), mode="text"))).hits
    entry = hit.entry
    assert GARDEN[entry.metadata["start"] : entry.metadata["end"]] == entry.content
    assert entry.metadata["heading"] == ["Beds", "North"]
    assert (entry.type, entry.origin) == ("document", "file")
    assert (entry.source.document_id, entry.source.path) == (made.document.id, "notes/garden.md")
    assert (made.document.title, made.document.media_type) == ("Beds", "text/markdown")
    assert made.document.chunks == 2


async def test_its_vectors_follow_and_it_says_how_far_they_are(memory: SqliteMemory) -> None:
    made = await bring(memory, GARDEN, name="garden.md")

    await memory.settled()

    told = await memory.document(made.document.id)
    assert (told.state, told.indexed, told.embedded, told.chunks) == ("ready", 2, 2, 2)
    found = await memory.search(Query(query="moss wants shade", mode="vector"))
    assert "Moss" in found.hits[0].entry.content
    assert (await memory.stats()).documents == 1


async def test_pages_and_formats_are_kept(memory: SqliteMemory) -> None:
    book = await bring(memory, pdf([["Tomatoes."], ["Roses."]], title="Book"), name="book.pdf")
    trip = await bring(memory, docx(), name="trip.docx", title="Mine")

    chunks = await memory.chunks(book.document.id)
    assert [chunk.metadata["page"] for chunk in chunks] == [1, 2]
    assert (book.document.title, book.document.pages, trip.document.title) == ("Book", 2, "Mine")
    assert [one.id for one in await memory.documents()] == [trip.document.id, book.document.id]
    assert await memory.documents(before=trip.document.id) == (
        await memory.document(book.document.id),
    )


@pytest.mark.parametrize(
    ("told", "origin"),
    [
        ({}, "file"),
        ({"source": "https://example.org/a"}, "web"),
        ({"mine": True}, "owner"),
    ],
)
async def test_a_document_is_the_owners_word_only_when_the_owner_says_so(
    memory: SqliteMemory, told: dict[str, Any], origin: str
) -> None:
    made = await bring(memory, GARDEN, **told)

    (chunk, *_) = await memory.chunks(made.document.id)
    assert (made.document.origin, chunk.origin) == (origin, origin)


async def test_the_same_content_twice_is_one_document(memory: SqliteMemory) -> None:
    first, second = await asyncio.gather(bring(memory, GARDEN), bring(memory, GARDEN))
    other = await bring(memory, GARDEN, user_id="ada")

    assert {first.created, second.created} == {True, False}
    assert first.document.id == second.document.id != other.document.id
    assert len(await memory.documents(user_id="owner")) == 1


async def test_a_newer_version_takes_the_place_of_the_older(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        old = await bring(memory, "Tea at four.", source="plan.txt")
        before = clock.at
        clock.at = before.replace(year=before.year + 1)

        new = await bring(memory, "Tea at five.", source="plan.txt")

        assert new.supersedes == old.document.id
        assert await words_found(memory, "tea") == ["Tea at five."]
        await memory.settled()
        assert await words_found(memory, "tea") == ["Tea at five."]
        assert await words_found(memory, "tea", as_of=before) == ["Tea at four."]
        assert await words_found(memory, "tea", known_at=before) == ["Tea at four."]
        told = await memory.document(old.document.id)
        assert (told.state, told.superseded_by) == ("superseded", new.document.id)


async def test_a_document_that_is_deleted_leaves_nothing(
    memory: SqliteMemory, tmp_path: Path
) -> None:
    made = await bring(memory, f"The xylographer rests.\n\n{GARDEN}", name="a.md")
    (chunk, *_) = await memory.chunks(made.document.id)

    receipt = await memory.erase(Forget(document_id=made.document.id))

    assert (receipt.what, receipt.erased) == (
        "document",
        {"documents": 1, "chunks": made.document.chunks},
    )
    with pytest.raises(DocumentNotFound):
        await memory.document(made.document.id)
    with pytest.raises(EntryNotFound):
        await memory.recall(chunk.id)
    assert await words_found(memory, "xylographer") == []
    await memory.settled()
    kept = sqlite3.connect(tmp_path / "sonia.db")
    assert kept.execute("SELECT count(*) FROM memory_entries").fetchone() == (0,)
    kept.close()
    texts = [path for path in (tmp_path / "text-index").rglob("*") if path.is_file()]
    assert not [path for path in texts if b"xylographer" in path.read_bytes()]


async def test_forgetting_a_person_takes_their_documents(memory: SqliteMemory) -> None:
    ada = await bring(memory, GARDEN, name="a.md", user_id="ada")
    mine = await bring(memory, GARDEN, name="a.md")

    receipt = await memory.erase(Forget(user_id="ada"))

    assert receipt.erased["documents"] == 1
    with pytest.raises(DocumentNotFound):
        await memory.document(ada.document.id)
    assert (await memory.document(mine.document.id)).chunks == 2


@pytest.mark.parametrize(("name", "content", "reason", "word"), REFUSED[::4])
async def test_t44_what_cannot_be_read_is_told_why_and_leaves_nothing(
    memory: SqliteMemory, tmp_path: Path, name: str, content: bytes, reason: str, word: str
) -> None:
    with pytest.raises(NotReadable) as refused:
        await bring(memory, content, name=name)

    await memory.settled()
    assert refused.value.details["reason"] == reason
    assert word in refused.value.message
    assert await memory.documents() == ()
    assert not list((tmp_path / "incoming").iterdir())


async def test_a_document_over_the_limit_is_refused_while_it_arrives(tmp_path: Path) -> None:
    config = MemoryEngine(documents=Settings(max_bytes=10))
    async with opened(tmp_path, config=config) as memory:
        with pytest.raises(PayloadTooLarge, match="max_bytes"):
            await bring(memory, GARDEN)

        assert await memory.documents() == ()


@pytest.mark.parametrize("nasty", NASTY)
async def test_t42_no_text_of_a_document_is_syntax(memory: SqliteMemory, nasty: str) -> None:
    made = await bring(
        memory, f"before {nasty.replace(chr(0), '')} after", title=nasty, source=nasty
    )

    await memory.settled()

    (chunk,) = await memory.chunks(made.document.id)
    assert made.document.title == made.document.source == nasty
    assert nasty.replace("\0", "") in chunk.content
    assert chunk.content in await words_found(memory, "before after")
    assert [one.id for one in await memory.documents(source=nasty)] == [made.document.id]


# --- whole or not at all -----------------------------------------------------------------


@pytest.fixture
async def stopped(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Chunks come one at a time; set when the second is about to be written, which never is."""
    reached = asyncio.Event()
    add = shelf.add
    monkeypatch.setattr(keeping, "BATCH", 1)
    loop = asyncio.get_running_loop()

    def stop(c: Any, document_id: str, made: Any) -> None:
        if c.execute("SELECT chunks FROM memory_documents WHERE chunks > 0").fetchone():
            loop.call_soon_threadsafe(reached.set)
            raise StorageFull("The disk is full.")
        add(c, document_id, made)

    monkeypatch.setattr(shelf, "add", stop)
    return reached


async def test_r03_a_disk_that_fills_half_way_leaves_nothing(
    memory: SqliteMemory, stopped: asyncio.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StorageFull):
        await bring(memory, GARDEN, name="a.md")

    await memory.settled()
    assert stopped.is_set()
    assert await memory.documents() == ()
    assert (await memory.stats()).memories == 0
    monkeypatch.undo()
    assert (await bring(memory, GARDEN, name="a.md")).created


async def test_a_document_that_is_being_written_is_not_found(
    memory: SqliteMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    finish = keeping.KeepsDocuments._finish

    async def look_first(self: Any, document_id: str, new: NewDocument) -> str | None:
        await memory._parts.text.settled()
        seen.append(await words_found(memory, "moss"))
        seen.append(await words_found(memory, ""))
        seen.append(await memory.by_type("document"))
        seen.append((await memory.document(document_id)).state)
        return await finish(self, document_id, new)

    monkeypatch.setattr(keeping.KeepsDocuments, "_finish", look_first)
    await memory.store(NewMemory(type="fact", content="I like tea"))

    await bring(memory, GARDEN, name="a.md")

    assert seen == [[], ["I like tea"], (), "writing"]
    assert len(await words_found(memory, "moss")) == 1


async def test_an_ingest_that_is_cancelled_leaves_nothing(
    memory: SqliteMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = asyncio.Event()

    async def hang(*_: Any) -> str | None:
        reached.set()
        await asyncio.Event().wait()
        return None

    monkeypatch.setattr(keeping.KeepsDocuments, "_finish", hang)
    bringing = asyncio.create_task(bring(memory, GARDEN, name="a.md"))
    await reached.wait()

    bringing.cancel()

    with pytest.raises(asyncio.CancelledError):
        await bringing
    await memory.settled()
    assert (await memory.documents(), (await memory.stats()).memories) == ((), 0)


async def test_r01_what_a_crash_left_half_written_is_gone_at_the_next_start(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as memory:
        await bring(memory, GARDEN, name="a.md")
        await memory.settled()
    kept = sqlite3.connect(tmp_path / "sonia.db")
    kept.execute("UPDATE memory_documents SET state = 'writing', hidden = 1")
    kept.commit()
    kept.close()
    (tmp_path / "incoming/left").mkdir(parents=True)
    (tmp_path / "incoming/left/file").write_bytes(os.urandom(10))

    async with opened(tmp_path) as memory:
        assert await words_found(memory, "moss") == []
        await memory.settled()

        assert (await memory.documents(), (await memory.stats()).memories) == ((), 0)
        assert not (tmp_path / "incoming").exists()
        assert (await bring(memory, GARDEN, name="a.md")).created


async def test_a_document_that_is_forgotten_while_it_is_read_is_not_written(
    memory: SqliteMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = keeping.KeepsDocuments._finish

    async def forget_first(self: Any, document_id: str, new: NewDocument) -> str | None:
        await memory.erase(Forget(document_id=document_id))
        return await finish(self, document_id, new)

    monkeypatch.setattr(keeping.KeepsDocuments, "_finish", forget_first)

    with pytest.raises(shelf.Gone):
        await bring(memory, GARDEN, name="a.md")

    await memory.settled()
    assert (await memory.stats()).memories == 0


async def test_a_deletion_that_was_cut_off_is_gone_on_with(
    memory: SqliteMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await bring(memory, GARDEN, name="a.md")

    with monkeypatch.context() as broken:
        broken.setattr(shelf, "erase_some", _full)
        receipt = await memory.erase(Forget(document_id=made.document.id))
        assert (receipt.state, await words_found(memory, "moss")) == ("settling", [])
    await memory.settled()

    assert (await memory.stats()).memories == 0
    assert (await memory.receipt(receipt.id)).state == "done"
    assert sweeping.BATCH >= keeping.BATCH


def _full(*_: Any, **__: Any) -> bool:
    raise StorageFull("The disk is full.")
