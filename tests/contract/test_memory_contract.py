"""What everyone may rely on of a `Memory`, with its indexes caught up and while they are behind."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sonia.errors import InvalidRequest
from sonia.memory import (
    Change,
    EntryNotFound,
    Memory,
    NewMemory,
    Query,
    SearchMode,
    SessionNotFound,
    SqliteMemory,
    following,
)
from sonia.types import MemoryId
from tests.memory_given import NASTY, opened

FIVE_EAST = dt.timezone(dt.timedelta(hours=5))
CatchUp = Callable[[], Awaitable[None]]


@pytest.fixture
async def memory(tmp_path: Path) -> AsyncIterator[SqliteMemory]:
    async with opened(tmp_path) as memory:
        yield memory


@pytest.fixture(params=["caught up", "behind"])
def catch_up(
    request: pytest.FixtureRequest, memory: SqliteMemory, monkeypatch: pytest.MonkeyPatch
) -> CatchUp:
    if request.param == "caught up":
        return memory.settled

    async def stay() -> None:
        return None

    monkeypatch.setattr(following, "GATHER_S", 3600.0)
    return stay


async def put(memory: Memory, *contents: str, **fields: Any) -> list[MemoryId]:
    entries = [
        await memory.store(NewMemory(type=fields.pop("type", "fact"), content=content, **fields))
        for content in contents
    ]
    return [entry.id for entry in entries]


async def contents(memory: Memory, query: Query) -> list[str]:
    return [hit.entry.content for hit in (await memory.search(query)).hits]


def test_the_real_part_fits_the_protocol(memory: SqliteMemory) -> None:
    assert isinstance(memory, Memory)


async def test_what_was_stored_is_recalled_as_it_was(memory: Memory) -> None:
    stored = await memory.store(
        NewMemory(
            type="fact",
            content="The spare key is under the pot.",
            metadata={"place": ["garden", {"pot": 2}]},
            user_id="ada",
            session_id="ses_1",
            valid_from=dt.datetime(
                2024, 2, 29, 1, 2, 3, 4, tzinfo=dt.timezone(dt.timedelta(hours=5))
            ),
            importance=0.75,
        )
    )

    recalled = await memory.recall(stored.id)

    assert recalled == stored
    assert recalled.valid_from == dt.datetime(2024, 2, 28, 20, 2, 3, 4, tzinfo=dt.UTC)
    assert (recalled.version, recalled.origin, recalled.metadata["place"][1]) == (
        1,
        "owner",
        {"pot": 2},
    )


async def test_it_is_found_by_its_words_when_store_returns(
    memory: Memory, catch_up: CatchUp
) -> None:
    await put(memory, "My dog is called Biscuit", "The boiler was serviced")
    await catch_up()

    found = await memory.search(Query(query="what are my dogs called?", mode="text"))

    assert [hit.entry.content for hit in found.hits] == ["My dog is called Biscuit"]
    assert found.mode == "text"


async def test_rare_words_count_more_than_common_ones(memory: Memory, catch_up: CatchUp) -> None:
    await put(memory, *(f"the cat sat on chair {n}" for n in range(20)), "the xylophone is broken")
    await catch_up()

    best = await contents(memory, Query(query="the xylophone on chair", mode="text"))

    assert best[0] == "the xylophone is broken"


async def test_old_and_new_memories_are_ranked_together(memory: SqliteMemory) -> None:
    await put(memory, *(f"the cat sat on chair {n}" for n in range(20)), "a very old xylophone")
    await memory.settled()
    await put(memory, "a very new xylophone", "the chair is new")

    best = await contents(memory, Query(query="chair or xylophone", mode="text", limit=2))

    assert set(best) == {"a very old xylophone", "a very new xylophone"}


async def test_a_change_is_a_new_version_and_the_old_words_find_it_no_more(
    memory: Memory, catch_up: CatchUp
) -> None:
    (known_id,) = await put(memory, "My dog is called Biscuit")
    await catch_up()

    changed = await memory.change(known_id, Change(content="My dog is called Waffle"))
    await catch_up()

    assert changed.version == 2
    assert await memory.recall(known_id) == changed
    assert [version.content for version in await memory.versions(known_id)] == [
        "My dog is called Biscuit",
        "My dog is called Waffle",
    ]
    assert await contents(memory, Query(query="Biscuit", mode="text")) == []
    assert await contents(memory, Query(query="Waffle", mode="text")) == ["My dog is called Waffle"]


async def test_a_change_of_nothing_is_refused(memory: Memory) -> None:
    (known_id,) = await put(memory, "x")

    with pytest.raises(InvalidRequest, match="at least one of content"):
        await memory.change(known_id, Change())


@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
async def test_what_is_forgotten_is_nowhere(
    memory: Memory, catch_up: CatchUp, mode: SearchMode
) -> None:
    known_id, other = await put(memory, "My dog is called Biscuit", "My dog is old")
    await memory.change(known_id, Change(content="My dog is called Waffle"))
    await catch_up()

    await memory.forget(known_id)

    found = await memory.search(Query(query="dog called Biscuit Waffle", mode=mode))
    assert {hit.entry.id for hit in found.hits} <= {other}
    for gone in (memory.recall, memory.versions, memory.forget):
        with pytest.raises(EntryNotFound):
            await gone(known_id)


@pytest.mark.parametrize("mode", ["text", "vector", "hybrid"])
@pytest.mark.parametrize(
    ("narrowed", "expected"),
    [
        ({"types": ("episode",)}, {"red 2"}),
        ({"types": ("episode", "note")}, {"red 2", "red 3"}),
        ({"user_id": "bob"}, {"red 3"}),
        ({"session_id": "ses_2"}, {"red 2"}),
        ({"since": dt.datetime(2025, 1, 1, tzinfo=dt.UTC)}, {"red 2", "red 3"}),
        (
            {
                "since": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
                "until": dt.datetime(2025, 1, 1, tzinfo=dt.UTC),
            },
            {"red 1", "red 2"},
        ),
        ({"user_id": "ada", "types": ("fact",)}, {"red 1"}),
        ({"user_id": "nobody"}, set()),
    ],
    ids=str,
)
async def test_a_search_finds_only_what_it_is_narrowed_to(
    memory: SqliteMemory, narrowed: dict[str, Any], expected: set[str], mode: SearchMode
) -> None:
    for content, kind, user, session, year in (
        ("red 1", "fact", "ada", "ses_1", 2024),
        ("red 2", "episode", "ada", "ses_2", 2025),
        ("red 3", "note", "bob", "ses_1", 2026),
    ):
        await memory.store(
            NewMemory(
                type=kind,
                content=content,
                user_id=user,
                session_id=session,
                valid_from=dt.datetime(year, 1, 1, tzinfo=dt.UTC),
            )
        )
    behind = await contents(memory, Query(query="red", mode="text", **narrowed))
    await memory.settled()

    caught_up = await contents(memory, Query(query="red", mode=mode, **narrowed))

    assert set(behind) == set(caught_up) == expected
    assert set(await contents(memory, Query(query="", **narrowed))) == expected


async def test_narrowing_reaches_past_closer_memories_of_others(memory: SqliteMemory) -> None:
    await put(memory, *("blue sky" for _ in range(60)), user_id="ada")
    await put(memory, "blue but far from that sky above", user_id="bob")
    await memory.settled()

    for mode in ("text", "vector"):
        found = await contents(memory, Query(query="blue sky", user_id="bob", mode=mode, limit=1))
        assert found == ["blue but far from that sky above"]


async def test_a_vector_follows_within_moments(memory: SqliteMemory) -> None:
    await put(memory, "green tea in the morning", "a train to Ghent")
    await memory.settled()

    found = await memory.search(Query(query="tea morning", mode="vector", limit=1))

    assert found.mode == "vector"
    assert [hit.entry.content for hit in found.hits] == ["green tea in the morning"]
    assert (await memory.stats()).unembedded == 0


async def test_an_explained_hit_says_why(memory: SqliteMemory) -> None:
    await put(memory, "green tea in the morning")
    await memory.settled()

    (hit,) = (await memory.search(Query(query="tea", explain=True))).hits

    assert hit.parts is not None
    relevance = {"text", "vector", "feedback", "alike", "beside"}
    assert set(hit.parts) >= relevance | {"recency", "importance"}
    assert sum(hit.parts.values()) == pytest.approx(hit.score)
    assert 0.099 < hit.parts["recency"] <= 0.1


async def test_a_question_of_function_words_alone_is_looked_for(memory: SqliteMemory) -> None:
    await put(memory, "To be, or not to be", "A train to Ghent")
    await memory.settled()

    for mode in ("text", "hybrid"):
        found = await memory.search(Query(query="to be or not", mode=mode))

        assert found.hits[0].entry.content == "To be, or not to be"


async def test_the_answer_beside_what_was_asked_for_comes_with_it(memory: SqliteMemory) -> None:
    for content in ("What did the vet say of Biscuit?", "He needs two pills a day.", "Poor boy!"):
        await memory.store(NewMemory(type="episode", content=content, session_id="vet"))
    await memory.store(NewMemory(type="episode", content="Pens and pads were bought."))
    await memory.settled()

    found = await memory.search(Query(query="vet Biscuit", limit=2, explain=True))

    assert [hit.entry.content for hit in found.hits][1] == "He needs two pills a day."
    assert (found.hits[1].parts or {})["beside"] > 0


async def test_words_are_found_however_they_are_written(memory: SqliteMemory) -> None:
    await put(memory, "Ein Re\u0301sume\u0301 u\u0308ber Cafés", "私は日本語を話します")
    await memory.settled()

    for asked in ("r\u00e9sum\u00e9", "resume", "cafe", "日本語", "話します"):
        assert (await memory.search(Query(query=asked, mode="text"))).hits, asked


async def test_an_empty_query_finds_the_newest(memory: Memory) -> None:
    await put(memory, "one", "two", "three")

    assert await contents(memory, Query(query="  ", limit=2)) == ["three", "two"]


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_a_limit_out_of_bounds_is_refused(memory: Memory, limit: int) -> None:
    with pytest.raises(InvalidRequest):
        await memory.search(Query(query="x", limit=limit))
    with pytest.raises(InvalidRequest):
        await memory.by_type("fact", limit=limit)


async def test_by_type_is_newest_first(memory: Memory) -> None:
    await put(memory, "one", "two", type="fact")
    await put(memory, "other", type="note")

    assert [entry.content for entry in await memory.by_type("fact")] == ["two", "one"]


async def test_stats_count_what_there_is(memory: SqliteMemory) -> None:
    await put(memory, "one", "two")
    await put(memory, "three", type="note")
    await memory.open_session("ses_1")
    await memory.settled()

    stats = await memory.stats()

    assert (stats.memories, stats.by_type) == (3, {"fact": 2, "note": 1})
    assert (stats.vectors, stats.text_documents, stats.unembedded) == (3, 3, 0)
    assert (stats.sessions, stats.events, stats.embedding_space) == (1, 3, "hashing")
    assert stats.database_bytes > 0


# --- refusing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"content": ""}, "content"),
        ({"content": "x" * 100_001}, "content"),
        ({"type": "Not A Type"}, "type"),
        ({"importance": 1.5}, "importance"),
        ({"metadata": {"k": "v" * 17_000}}, "16384"),
        ({"metadata": {"k": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}}, "16 levels"),
        ({"content": "\ud800"}, "surrogates"),
        ({"metadata": {"k": "\udfff"}}, "surrogates"),
        ({"metadata": {"k": object()}}, "JSON"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": "u" * 257}, "user_id"),
        ({"valid_from": dt.datetime(2026, 1, 1)}, "offset"),  # noqa: DTZ001  the point
        ({"valid_from": dt.datetime(1, 1, 1, tzinfo=dt.UTC)}, "years"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_what_can_not_be_kept_is_refused_and_nothing_is_written(
    memory: Memory, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(InvalidRequest, match=said):
        await memory.store(NewMemory(**{"type": "fact", "content": "x", **fields}))

    assert (await memory.stats()).memories == (await memory.stats()).events == 0


@pytest.mark.parametrize("text", NASTY)
async def test_t42_hostile_text_is_kept_exactly_and_asked_for_safely(
    memory: Memory, catch_up: CatchUp, text: str
) -> None:
    (known_id,) = await put(memory, text, metadata={"same": text})
    await catch_up()

    recalled = await memory.recall(known_id)

    assert (recalled.content, recalled.metadata) == (text, {"same": text})
    for mode in ("text", "vector", "hybrid"):
        await memory.search(Query(query=text, mode=mode, user_id=text, session_id=text))
        await memory.search(Query(query=text, mode=mode))
    assert (await memory.stats()).memories == 1


async def test_t42_operators_are_only_words(memory: Memory, catch_up: CatchUp) -> None:
    await put(memory, "cats and dogs", "dogs alone")
    await catch_up()

    for query in ("NOT dogs", "-dogs", "dogs AND", '"dogs', "content:dogs", "dogs*"):
        assert len(await contents(memory, Query(query=query, mode="text"))) == 2


async def test_t42_a_query_without_unicode_is_refused(memory: Memory) -> None:
    with pytest.raises(InvalidRequest, match="surrogates"):
        await memory.search(Query(query="\ud83d"))
    with pytest.raises(InvalidRequest, match="Unicode"):
        await memory.recall(MemoryId("\ud83d"))


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(min_size=1, max_size=200))
async def test_t42_any_text_comes_back_as_it_was(memory: SqliteMemory, text: str) -> None:
    (known_id,) = await put(memory, text)

    assert (await memory.recall(known_id)).content == text
    await memory.search(Query(query=text))


# --- the ledger ---------------------------------------------------------------------------


async def test_the_ledger_keeps_order_and_can_be_read_on(memory: Memory) -> None:
    for n in range(5):
        await memory.append("app.tick", {"n": n}, session_id="ses_1" if n % 2 else None)

    first = await memory.events(limit=2)
    rest = await memory.events(after=first[-1].number)
    of_session = await memory.events(session_id="ses_1", kind="app.tick")

    assert [event.data["n"] for event in (*first, *rest)] == [0, 1, 2, 3, 4]
    assert [event.data["n"] for event in of_session] == [1, 3]
    assert all(event.correlation_id for event in rest)


@pytest.mark.parametrize("kind", ["turn.user", "memory.stored", "Bad Kind", ""])
async def test_nobody_else_writes_sonias_own_kinds(memory: Memory, kind: str) -> None:
    with pytest.raises(InvalidRequest):
        await memory.append(kind, {"content": "I never said this"})

    assert await memory.events() == ()


async def test_the_ledger_says_what_happened_to_a_memory_but_not_its_content(
    memory: Memory,
) -> None:
    (known_id,) = await put(memory, "My dog is called Biscuit")
    await memory.change(known_id, Change(importance=1.0))
    await memory.forget(known_id)

    events = await memory.events()

    assert [event.kind for event in events] == [
        "memory.stored",
        "memory.changed",
        "memory.forgotten",
    ]
    assert all(event.data["id"] == known_id for event in events)
    assert "Biscuit" not in str(events)


# --- sessions -----------------------------------------------------------------------------


async def test_a_session_is_opened_once(memory: Memory) -> None:
    first = await memory.open_session("ses_1", user_id="ada", metadata={"a": 1})
    again = await memory.open_session("ses_1", user_id="ada", metadata={"a": 2})
    new = await memory.open_session()

    assert again == first == await memory.session("ses_1")
    assert new.id.startswith("ses_")
    assert {session.id for session in await memory.sessions()} == {"ses_1", new.id}


async def test_an_unknown_session_is_empty_or_not_found(memory: Memory) -> None:
    assert await memory.history("ses_x") == ()
    with pytest.raises(SessionNotFound):
        await memory.session("ses_x")
    with pytest.raises(SessionNotFound):
        await memory.close_session("ses_x")


async def test_it_is_well(memory: SqliteMemory) -> None:
    await put(memory, "one")
    await memory.settled()

    detail = await memory.probe()

    assert (detail["memories"], detail["text_index"], detail["waiting_for"]) == (1, "ready", [])
