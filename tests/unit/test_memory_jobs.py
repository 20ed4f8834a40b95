"""What memory does by itself: when, one at a time, through restarts; and what each job does."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from sonia.config import Decay, MemoryEngine, Summaries
from sonia.db import open_database
from sonia.errors import StorageFull, Unavailable
from sonia.memory import JobNotFound, NewMemory, Query, SqliteMemory, fading, jobs, store
from sonia.memory.comparing import same
from sonia.memory.jobs import Counts, Job, Jobs, due
from sonia.types import Origin
from tests.memory_given import MIGRATIONS, Clock, ScriptedModel, opened

DAY = dt.timedelta(days=1)
HOUR = dt.timedelta(hours=1)


async def stored(memory: SqliteMemory, *contents: str, **fields: object) -> list[str]:
    entries = [
        await memory.store(NewMemory(**{"type": "fact", **fields, "content": content}))  # type: ignore[arg-type]
        for content in contents
    ]
    return [entry.id for entry in entries]


async def known(memory: SqliteMemory, **query: object) -> list[str]:
    asked = Query(**{"query": "", "limit": 50, **query})  # type: ignore[arg-type]
    return sorted(hit.entry.content for hit in (await memory.search(asked)).hits)


def one(work: Callable[[], Awaitable[Counts]], every: dt.timedelta = HOUR) -> Job:
    return Job(name="sweep", about="Sweeps.", every=every, work=work)


async def nothing() -> Counts:
    return {}


# --- the schedule ------------------------------------------------------------------------


def test_a_job_is_due_from_when_it_last_ended() -> None:
    at = Clock().at

    assert due(at, None, None, HOUR) == at + HOUR
    assert due(at, at, at + HOUR, HOUR) == at + 2 * HOUR
    assert due(at, at + 3 * HOUR, at + HOUR, HOUR) == at + 3 * HOUR, "begun and never ended"


async def test_a_restart_starts_no_count_anew(tmp_path: Path) -> None:
    clock = Clock()
    start = clock.at
    async with opened(tmp_path, clock=clock) as memory:
        clock.at += HOUR
        await memory.run_job("decay")
    clock.at += 2 * HOUR
    async with opened(tmp_path, clock=clock) as memory:
        decay = next(job for job in await memory.jobs() if job.name == "decay")

        assert decay.ended_at == start + HOUR
        assert decay.next_at == start + 7 * HOUR
        assert decay.outcome == {"archived": 0}


async def test_what_came_due_meanwhile_is_done_once_soon_after_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SETTLE", dt.timedelta(0))
    clock, done, ran = Clock(), asyncio.Event(), []

    async def sweep() -> Counts:
        ran.append(clock.at)
        done.set()
        return {"swept": 3}

    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        early = Clock()
        early.at -= 30 * HOUR
        await Jobs(db, early, [one(sweep)]).run("sweep")
        done.clear()
        later = Jobs(db, clock, [one(sweep)])
        task = asyncio.create_task(later.follow())
        await done.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert len(ran) == 2


async def test_two_jobs_never_run_at_once(tmp_path: Path) -> None:
    running, most, go, begun = 0, 0, asyncio.Event(), asyncio.Event()

    async def work() -> Counts:
        nonlocal running, most
        running += 1
        most = max(most, running)
        begun.set()
        await go.wait()
        running -= 1
        return {}

    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        both = Jobs(db, Clock(), [one(work), Job(name="b", about="", every=HOUR, work=work)])
        runs = [asyncio.create_task(both.run(name)) for name in ("sweep", "b", "sweep")]
        await begun.wait()
        assert [job.running for job in await both.status()] == [True, False]
        go.set()
        await asyncio.gather(*runs)

    assert most == 1


async def test_leaving_stops_what_runs_and_it_is_due_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SETTLE", dt.timedelta(0))
    begun, stopped, clock = asyncio.Event(), asyncio.Event(), Clock()

    async def endless() -> Counts:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return {}

    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        short = Jobs(db, clock, [one(endless, dt.timedelta(milliseconds=10))])
        task = asyncio.create_task(short.follow())
        await begun.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

        assert stopped.is_set()
        (status,) = await Jobs(db, clock, [one(nothing)]).status()
        assert status.next_at == status.started_at


async def test_a_failure_is_kept_and_the_next_run_ends_it(tmp_path: Path) -> None:
    failures = [Unavailable("No room."), StorageFull("Full.")]

    async def work() -> Counts:
        if failures:
            raise failures.pop(0)
        return {"done": 1}

    async with open_database(tmp_path / "sonia.db", MIGRATIONS) as db:
        some = Jobs(db, Clock(), [one(work)])
        told = [await some.run("sweep") for _ in range(3)]

    assert [(status.failure, status.failures) for status in told] == [
        ("No room.", 1),
        ("Full.", 2),
        (None, 0),
    ]


async def test_an_unknown_job_is_named(tmp_path: Path) -> None:
    async with opened(tmp_path) as memory:
        with pytest.raises(JobNotFound) as caught:
            await memory.run_job("dream")

    assert caught.value.details["known"] == ["decay", "merge", "summarise"]


# --- decay -------------------------------------------------------------------------------


async def test_what_has_faded_is_archived_and_nothing_is_deleted(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        await stored(memory, "I went to the zoo.", type="episode", importance=0.4)
        (pinned,) = await stored(memory, "I saw a comet.", type="episode", importance=0.4)
        await memory.pin(pinned)  # type: ignore[arg-type]
        await stored(memory, "I am allergic to nuts.", importance=0.8)
        clock.at += 300 * DAY
        await stored(memory, "I went to the lake.", type="episode", importance=0.4)

        status = await memory.run_job("decay")

        assert status.outcome == {"archived": 1}
        assert "I went to the zoo." not in await known(memory)
        assert len(await known(memory)) == 3
        assert len(await known(memory, archived=True)) == 4
        assert (await memory.run_job("decay")).outcome == {"archived": 0}


async def test_decay_archives_nothing_when_told_not_to(tmp_path: Path) -> None:
    config = MemoryEngine(decay=Decay(auto_archive=False))
    clock = Clock()
    async with opened(tmp_path, clock=clock, config=config) as memory:
        await stored(memory, "I went to the zoo.", type="episode")
        clock.at += 3000 * DAY
        await memory.run_job("decay")

        assert await known(memory) == ["I went to the zoo."]


async def test_strength_in_the_table_is_strength_in_words(tmp_path: Path) -> None:
    clock, settings = Clock(), Decay(archive_after_days=1, archive_below=0.3)
    async with opened(tmp_path, clock=clock) as memory:
        for kind in ("fact", "episode", "task", "summary", "idea"):
            await stored(memory, f"A {kind}.", type=kind)
        clock.at += 100 * DAY
        entries = [hit.entry for hit in (await memory.search(Query(query=""))).hits]
        weak = {e.content for e in entries if fading.strength(e, clock.at, settings) < 0.3}

        found = await memory._parts.db.read(
            lambda c: store.entries(c, fading.faded(c, settings, clock.at))
        )

        assert weak == {"A episode.", "A task."}
        assert {entry.content for entry in found.values()} == weak


# --- summaries ---------------------------------------------------------------------------

DAYS_OUT = ("I went to the zoo.", "I met Tom at the lake.", "I bought a kite.")


async def days_out(memory: SqliteMemory, clock: Clock, origin: Origin = "owner") -> None:
    for content in DAYS_OUT:
        await stored(memory, content, type="episode", session_id="ses_1", origin=origin)
        clock.at += HOUR


async def test_old_episodes_become_one_summary_that_keeps_its_sources(tmp_path: Path) -> None:
    clock, config = Clock(), MemoryEngine(summaries=Summaries(at_least=3))
    clock.at = dt.datetime(2026, 3, 3, 9, tzinfo=dt.UTC)
    async with opened(tmp_path, clock=clock, config=config) as memory:
        await days_out(memory, clock)
        assert (await memory.run_job("summarise")).outcome == {"summaries": 0, "archived": 0}
        clock.at += 31 * DAY

        assert (await memory.run_job("summarise")).outcome == {"summaries": 1, "archived": 3}
        (hit,) = (await memory.search(Query(query=""))).hits
        assert hit.entry.type == "summary"
        assert hit.entry.content == f"3 March 2026: {' '.join(DAYS_OUT)}"
        assert len(hit.entry.source.made_from) == 3
        assert len(await known(memory, archived=True)) == 4
        assert (await memory.run_job("summarise")).outcome == {"summaries": 0, "archived": 0}


async def test_a_summary_is_trusted_no_more_than_its_sources(tmp_path: Path) -> None:
    clock, config = Clock(), MemoryEngine(summaries=Summaries(at_least=3))
    model = ScriptedModel('{"summary": "I had days out."}')
    async with opened(tmp_path, clock=clock, config=config, model=model) as memory:
        await days_out(memory, clock, origin="web")
        clock.at += 31 * DAY
        await memory.run_job("summarise")

        (hit,) = (await memory.search(Query(query=""))).hits
        assert (hit.entry.content, hit.entry.origin) == ("I had days out.", "web")


@pytest.mark.parametrize("answer", [Unavailable("Down."), "{}", "no json", '{"summary": " "}'])
async def test_rules_sum_up_when_the_model_does_not(
    tmp_path: Path, answer: str | Exception
) -> None:
    clock, config = Clock(), MemoryEngine(summaries=Summaries(at_least=3))
    model = ScriptedModel(answer)
    async with opened(tmp_path, clock=clock, config=config, model=model) as memory:
        await days_out(memory, clock)
        clock.at += 31 * DAY
        await memory.run_job("summarise")

        (told,) = await known(memory)
        assert "I went to the zoo." in told


# --- merging by meaning ------------------------------------------------------------------


async def test_what_says_the_same_in_almost_the_same_words_is_merged(tmp_path: Path) -> None:
    clock = Clock()
    async with opened(tmp_path, clock=clock) as memory:
        for number, text in enumerate(
            (
                "My old school friends meet in the garden every single Friday.",
                "My old school friends meet in the big garden every single Friday.",
            )
        ):
            told = {"session_id": "s", "turn_id": f"turn_{number}", "text": text, "at": clock.at}
            await memory.remember_turn(turn(told))
        await memory.settled()

        status = await memory.run_job("merge")

        assert status.outcome == {"compared": 2, "merged": 1}
        (stays,) = await known(memory)
        assert "big garden" in stays
        assert (await memory.run_job("merge")).outcome == {"compared": 0, "merged": 0}


@pytest.mark.parametrize(
    ("one_says", "other_says", "alike"),
    [
        ("I play tennis with my brother.", "I play tennis with my brother a lot.", True),
        ("I love red wine.", "I love white wine.", False),
        ("My locker is number 12.", "My locker is number 21.", False),
        ("I met Anna at the lake.", "I met Tom at the lake.", False),
        ("I do eat fish at home.", "I do not eat fish at home.", False),
        ("I live in Porto.", "I was born in Porto.", False),
    ],
)
async def test_vectors_alone_make_nothing_the_same(
    tmp_path: Path, one_says: str, other_says: str, alike: bool
) -> None:
    async with opened(tmp_path) as memory:
        entries = [
            await memory.store(NewMemory(type="fact", content=content))
            for content in (one_says, other_says)
        ]

    assert same(*entries, cosine=0.96) is alike


def turn(fields: dict[str, object]) -> object:
    from sonia.events import TurnFinished

    given = {"user_id": "owner", "response": "I see.", "complete": True, **fields}
    return msgspec.convert(given, TurnFinished)
