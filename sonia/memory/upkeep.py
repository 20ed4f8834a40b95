"""The jobs of memory, over its parts: merging, summing up, fading."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from functools import partial

from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.memory import comparing, fading, merging, store, summaries
from sonia.memory.extracting import answered
from sonia.memory.interface import Entry
from sonia.memory.jobs import Counts, Job, Jobs
from sonia.memory.parts import Parts
from sonia.memory.reading import Reader
from sonia.types import Origin, Value

READ_BATCH = 100  # some milliseconds, between which others have their turn
READ_DUTY = 0.25  # the share of the time for that: after an import it goes on for long


class _Summary(Value):
    summary: str


class Upkeep:
    """What the jobs do. The reader's model writes summaries, when it is quiet; else rules do."""

    def __init__(self, parts: Parts, reader: Reader | None) -> None:
        self._parts = parts
        self._reader = reader
        every = parts.config.jobs
        self.jobs = Jobs(
            parts.db,
            parts.clock,
            (
                Job(
                    name="merge",
                    about="Has what says the same as something known give way to it.",
                    every=dt.timedelta(minutes=every.merge_every_minutes),
                    work=self.merge,
                ),
                Job(
                    name="summarise",
                    about="Sums up old episodes of a session and archives them.",
                    every=dt.timedelta(hours=every.summarise_every_hours),
                    work=self.summarise,
                ),
                Job(
                    name="decay",
                    about="Archives what has faded.",
                    every=dt.timedelta(hours=every.decay_every_hours),
                    work=self.decay,
                ),
            ),
        )

    async def merge(self) -> Counts:
        """Compare what was said since the last time with what was known."""
        db, compared, merged = self._parts.db, 0, 0
        await self._read_unread()
        while numbers := await db.read(comparing.uncompared):
            await self._parts.mirror.settled()  # it holds these, too
            look = partial(comparing.neighbours, mirror=self._parts.mirror)
            near = {n: await db.read(partial(look, number=n)) for n in numbers}
            note = self._parts.note("memory.superseded")
            merged += await db.write(partial(comparing.merge_all, near=near, note=note))
            compared += len(numbers)
        return {"compared": compared, "merged": merged}

    async def _read_unread(self) -> None:
        began, work = time.perf_counter(), partial(merging.note_unread, limit=READ_BATCH)
        while await self._parts.db.write(work) == READ_BATCH:
            await asyncio.sleep((time.perf_counter() - began) * (1 / READ_DUTY - 1))
            began = time.perf_counter()

    async def summarise(self) -> Counts:
        """Sum up each session whose episodes are old."""
        db, made, archived = self._parts.db, 0, 0
        settings = self._parts.config.summaries
        note = self._parts.note("memory.archived")
        for group in await db.read(partial(summaries.groups, settings=settings, at=note.at)):
            found = await db.read(partial(store.entries, numbers=group.numbers))
            if len(found) < len(group.numbers):
                continue  # one of them is damaged
            told = await self._summed_up([found[number] for number in group.numbers])
            if told is None:
                break  # somebody speaks; the rest is for the next time
            content, origin = told
            kept = await db.write(
                partial(summaries.keep, group=group, content=content, note=note, origin=origin)
            )
            if kept is not None:
                made, archived = made + 1, archived + len(group.numbers)
        self._parts.wake()
        return {"summaries": made, "archived": archived}

    async def decay(self) -> Counts:
        """Archive what has become too weak, if that is wanted."""
        settings, archived = self._parts.config.decay, 0
        note = self._parts.note("memory.archived")
        find = partial(fading.faded, settings=settings, at=note.at)
        while settings.auto_archive and (numbers := await self._parts.db.read(find)):
            done = await self._parts.db.write(
                partial(fading.archive_faded, numbers=numbers, settings=settings, note=note)
            )
            if not done:  # what is left of them is damaged
                break
            archived += done
        return {"archived": archived}

    async def _summed_up(self, entries: list[Entry]) -> tuple[str, Origin] | None:
        by_rules: tuple[str, Origin] = (summaries.extract(entries), "owner")
        reader = self._reader
        if reader is None:
            return by_rules
        ask = partial(
            answered,
            reader.model,
            summaries.INSTRUCTIONS,
            summaries.notes(entries),
            summaries.SCHEMA,
            _Summary,
            self._parts.config.extraction.deadline_s,
        )
        try:
            told = await reader.undisturbed(ask)
        except SoniaError as error:
            get_logger("memory-engine").warning("summed up by rules", reason=error.message)
            return by_rules
        if told is None:
            return None
        return (told.summary.strip(), "model") if told.summary.strip() else by_rules
