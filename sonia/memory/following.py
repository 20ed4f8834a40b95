"""Tasks that keep the derived indexes behind the table; the one of the text index.

Each asks the table what it lacks, takes that up, and notes what it now holds. The note comes
last, so a crash in between costs work done twice, never a memory not found: what is not noted
is taken up again at the next start.
"""

from __future__ import annotations

import asyncio
import secrets
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sonia.db import Database
from sonia.errors import SoniaError
from sonia.log import get_logger
from sonia.memory import bookkeeping
from sonia.memory.text import ANALYSIS, IndexDamaged, TextIndex

T = TypeVar("T")

GATHER_S = 0.1  # a commit of the index costs several fsyncs: let some memories come together
TEXT_BATCH = 2_000
FIRST_RETRY_S = 0.25
LAST_RETRY_S = 5.0


class Follower:
    """Works whenever it is woken, until the table has nothing more for it."""

    name = ""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._woken = asyncio.Event()
        self._settled = asyncio.Event()
        self.trouble: str | None = None

    def wake(self) -> None:
        """There is something new in the table."""
        self._settled.clear()
        self._woken.set()

    async def settled(self) -> None:
        """Return when the index holds everything that was committed before this call."""
        self.wake()
        await self._settled.wait()

    async def run(self) -> None:
        """Follow until cancelled. What can't be done now is tried again, later and later."""
        retry_s = FIRST_RETRY_S
        while True:
            self._woken.clear()
            try:
                worked = await self._step()
            except (SoniaError, IndexDamaged) as error:
                self._note(str(error))
                await asyncio.sleep(retry_s)
                retry_s = min(retry_s * 2, LAST_RETRY_S)
                continue
            self.trouble, retry_s = None, FIRST_RETRY_S
            if not worked:
                await self._rest()

    async def _rest(self) -> None:
        if not self._woken.is_set():
            self._settled.set()
            await self._woken.wait()
            await asyncio.sleep(GATHER_S)

    def _note(self, trouble: str) -> None:
        if self.trouble is None:
            get_logger("memory-engine").warning("index waits", index=self.name, reason=trouble)
        self.trouble = trouble

    async def _step(self) -> bool:
        """Take up a batch; False when there was none."""
        raise NotImplementedError


class TextFollower(Follower):
    """Keeps one text index, and writes a new one when it is lost or must forget.

    tantivy only marks a deleted document; its words stay in the files. So after something was
    forgotten a new generation is written without it, and the old one is removed.
    """

    name = "text"

    def __init__(self, db: Database, folder: Path) -> None:
        super().__init__(db)
        self._folder = folder
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="text-index")
        self.opened = asyncio.Event()
        self.live: TextIndex | None = None
        self._leaving = False  # a generation was replaced, and its files are still there
        self._left = asyncio.Condition()

    async def run(self) -> None:
        """Open what is there, then follow."""
        try:
            await self._open()
        finally:
            self.opened.set()
        await super().run()

    async def cleared(self) -> None:
        """Return when no file here holds a word of what was erased before this call.

        However much is written meanwhile: `settled` may then never come.
        """
        await self.opened.wait()
        erased = set(await self._db.read(bookkeeping.erased))
        async with self._left:
            while self._leaving or not erased.isdisjoint(await self._db.read(bookkeeping.erased)):
                self.wake()
                await self._left.wait()

    async def lose(self) -> None:
        """The index is gone or damaged: searches read the table until there is a new one."""
        get_logger("memory-engine").warning("text index lost; rebuilding it from the table")
        await self._db.write(bookkeeping.lose_text)
        self.live = None
        self.wake()

    async def close(self) -> None:
        """After the task has ended: finish the thread's work and let go of the folder."""
        if self.live is not None:
            with suppress(IndexDamaged):
                await self._in_thread(self.live.close)
            self.live = None
        await asyncio.to_thread(self._threads.shutdown)

    async def _open(self) -> None:
        generation, texted = await self._db.read(
            lambda c: (bookkeeping.text_generation(c), bookkeeping.texted(c))
        )
        await self._in_thread(partial(_remove_others, self._folder, generation))
        if generation is None:
            return
        if not generation.startswith(f"{ANALYSIS}-"):  # its texts were cut in another way
            await self.lose()
            return
        try:
            live = await self._in_thread(partial(_existing, self._folder / generation))
        except IndexDamaged:
            await self.lose()
            return
        if live.documents < texted:
            await self.lose()
        else:
            self.live = live

    async def _step(self) -> bool:
        live = self.live
        if live is not None and self._leaving:
            await self._leave(live)
        erased, renews = await self._db.read(
            lambda c: (bookkeeping.erased(c), bookkeeping.renews_text(c))
        )
        if live is None or erased or renews:
            await self._rebuild(erased)
            return True
        rows = await self._db.read(lambda c: bookkeeping.untexted(c, TEXT_BATCH))
        if not rows:
            return False
        try:
            await self._in_thread(partial(_take_up, live, rows))
        except IndexDamaged:
            await self.lose()
            raise
        held = [(row.number, row.version) for row in rows]
        await self._db.write(partial(bookkeeping.mark_texted, held=held), quiet=True)
        return True

    async def _rebuild(self, erased: list[int]) -> None:
        """Write a new generation beside the old, which answers until it is replaced."""
        generation = f"{ANALYSIS}-{secrets.token_hex(8)}"
        fresh = await self._in_thread(partial(TextIndex, self._folder / generation))
        held: list[tuple[int, int]] = []
        after = 0
        while rows := await self._db.read(
            partial(bookkeeping.contents_after, number=after, limit=TEXT_BATCH)
        ):
            await self._in_thread(partial(fresh.add, rows))
            held.extend((row.number, row.version) for row in rows)
            after = rows[-1].number
        await self._in_thread(fresh.commit)
        self._leaving = True
        await self._db.write(partial(bookkeeping.adopt_text, generation=generation, without=erased))
        old, self.live = self.live, fresh
        for start in range(0, len(held), TEXT_BATCH):
            await self._db.write(
                partial(bookkeeping.mark_texted, held=held[start : start + TEXT_BATCH]), quiet=True
            )
        if old is not None:
            with suppress(IndexDamaged):
                await self._in_thread(old.close)
        await self._leave(fresh)

    async def _leave(self, live: TextIndex) -> None:
        """Remove the files of every other generation, and say so."""
        await self._in_thread(partial(_remove_others, self._folder, live.path.name))
        async with self._left:
            self._leaving = False
            self._left.notify_all()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)


def _take_up(index: TextIndex, rows: list[Any]) -> None:
    index.add(rows)
    index.commit()


def _existing(path: Path) -> TextIndex:
    if not (path / "meta.json").is_file():
        raise IndexDamaged(f"{path.name} is not there")
    return TextIndex(path)


def _remove_others(folder: Path, generation: str | None) -> None:
    """Remove every generation but this one: what a crash or a replaced index left behind."""
    with suppress(FileNotFoundError):
        for child in folder.iterdir():
            if child.name != generation and child.is_dir():
                shutil.rmtree(child, ignore_errors=True)
