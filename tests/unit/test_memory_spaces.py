"""Another embedding model: embedded again in the background, while the old vectors answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from sonia.errors import Unavailable
from sonia.memory import Change, NewMemory, Query
from tests.memory_given import HashingEmbedder, LoadingEmbedder, OtherEmbedder, opened

COUNT = 100


async def filled(folder: Path) -> None:
    async with opened(folder) as memory:
        for number in range(COUNT):
            await memory.store(NewMemory(type="fact", content=f"the word is word{number}"))
        await memory.settled()


def asked(word: str) -> Query:
    return Query(query=f"the word is {word}", mode="vector", limit=1)


async def test_the_old_vectors_answer_until_all_new_ones_are_there(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = OtherEmbedder(allowed=64)
    async with opened(tmp_path, other, earlier={"hashing": HashingEmbedder()}.get) as memory:
        await other.waiting.wait()
        stats = await memory.stats()
        status = await memory.probe()
        (old,) = (await memory.search(asked("word7"))).hits
        added = await memory.store(NewMemory(type="fact", content="the word is added"))
        await memory.change(old.entry.id, Change(content="the word is changed"))
        other.go_on.set()
        await memory.settled()
        after = await memory.stats()
        (new,) = (await memory.search(asked("added"))).hits
        (changed,) = (await memory.search(asked("changed"))).hits

    assert (stats.embedding_space, stats.coming_space, stats.coming_vectors) == (
        "hashing",
        "other",
        64,
    )
    assert stats.vectors == COUNT
    assert status["coming_vectors"] == 64
    assert old.entry.content == "the word is word7"
    assert (after.embedding_space, after.coming_space, after.vectors, after.unembedded) == (
        "other",
        None,
        COUNT + 1,
        0,
    )
    assert new.entry.id == added.id
    assert changed.entry.id == old.entry.id


async def test_without_the_old_embedder_words_answer_meanwhile(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = OtherEmbedder(allowed=32)
    async with opened(tmp_path, other) as memory:
        await other.waiting.wait()
        found = await memory.search(Query(query="word7"))
        with pytest.raises(Unavailable, match="embedded again, by other"):
            await memory.search(asked("word7"))

    assert (found.mode, found.hits[0].entry.content) == ("text", "the word is word7")


async def test_what_was_interrupted_goes_on_where_it_was(tmp_path: Path) -> None:
    await filled(tmp_path)
    first = OtherEmbedder(allowed=64)
    async with opened(tmp_path, first) as memory:
        await first.waiting.wait()

    second = OtherEmbedder(allowed=1_000)
    async with opened(tmp_path, second) as memory:
        await memory.settled()
        made = second.made
        (found,) = (await memory.search(asked("word7"))).hits

    assert (first.made, made) == (64, COUNT - 64)
    assert found.entry.content == "the word is word7"


async def test_one_who_changes_back_half_way_has_everything_at_once(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = OtherEmbedder(allowed=64)
    async with opened(tmp_path, other):
        await other.waiting.wait()

    async with opened(tmp_path) as memory:
        stats = await memory.stats()
        (found,) = (await memory.search(asked("word7"))).hits

    assert (stats.embedding_space, stats.vectors, stats.coming_space) == ("hashing", COUNT, None)
    assert found.entry.content == "the word is word7"


async def test_there_and_back_again(tmp_path: Path) -> None:
    await filled(tmp_path)
    for embedder in (OtherEmbedder(1_000), HashingEmbedder(), OtherEmbedder(1_000)):
        async with opened(tmp_path, embedder) as memory:
            await memory.settled()
            gone = await memory.store(NewMemory(type="fact", content="soon forgotten"))
            await memory.settled()
            await memory.forget(gone.id)
            await memory.settled()
            stats = await memory.stats()
            (found,) = (await memory.search(asked("word7"))).hits
            assert (stats.embedding_space, stats.vectors) == (embedder.space, COUNT)
            assert found.entry.content == "the word is word7"


async def test_reindexing_makes_everything_anew_while_the_old_answers(tmp_path: Path) -> None:
    await filled(tmp_path)
    other = OtherEmbedder(allowed=1_000)
    async with opened(tmp_path, other) as memory:
        await memory.settled()
        before = {path.name for path in (tmp_path / "text-index").iterdir()}
        made, other.left = other.made, 0

        await memory.reindex()
        await other.waiting.wait()
        other.left = 1  # for the question
        other.go_on.set()
        (meanwhile,) = (await memory.search(asked("word7"))).hits
        await memory.settled()
        stats = await memory.stats()
        (after,) = (await memory.search(asked("word8"))).hits
        generations = {path.name for path in (tmp_path / "text-index").iterdir()}

    assert other.made - made >= COUNT
    assert meanwhile.entry.content == "the word is word7"
    assert after.entry.content == "the word is word8"
    assert (stats.vectors, stats.unembedded, stats.text_documents) == (COUNT, 0, COUNT)
    assert before.isdisjoint(generations)


async def test_reindexing_goes_on_after_a_restart(tmp_path: Path) -> None:
    await filled(tmp_path)
    before = {path.name for path in (tmp_path / "text-index").iterdir()}
    async with opened(tmp_path, LoadingEmbedder()) as memory:
        await memory.reindex()
        assert (await memory.stats()).unembedded == COUNT

    async with opened(tmp_path) as memory:
        await memory.settled()
        stats = await memory.stats()

    assert (stats.vectors, stats.unembedded) == (COUNT, 0)
    assert before.isdisjoint(path.name for path in (tmp_path / "text-index").iterdir())
