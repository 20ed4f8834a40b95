"""The life of a pull: shared, cancelled, waiting, out of space."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec
import pytest
from filelock import FileLock
from weights_given import BODY, LocalHub, entry

from sonia.errors import StorageFull, Unavailable
from sonia.weights import Progress, Weights, WeightsEntry
from sonia.weights.catalogue import WeightsFile


async def test_callers_of_one_name_share_one_pull(folder: Path, hub: LocalHub) -> None:
    weights = Weights(folder, catalogue=[entry(hub.source)])

    first, second = await asyncio.gather(weights.ensure("tiny"), weights.ensure("tiny"))

    assert first == second
    assert hub.ranges == [None]


async def test_a_caller_that_leaves_does_not_stop_the_pull_of_another(
    folder: Path, hub: LocalHub
) -> None:
    hub.held_at = 100_000
    weights = Weights(folder, catalogue=[entry(hub.source)])
    leaving = asyncio.create_task(weights.ensure("tiny"))
    staying = asyncio.create_task(weights.ensure("tiny"))
    await asyncio.to_thread(hub.reached.wait, 10)

    leaving.cancel()
    await asyncio.wait([leaving])
    hub.release.set()

    assert (await staying)["model.bin"].read_bytes() == BODY
    assert leaving.cancelled()


async def test_the_last_caller_that_leaves_stops_the_pull_and_the_next_goes_on(
    folder: Path, hub: LocalHub
) -> None:
    hub.held_at = 2_000_000
    weights = Weights(folder, catalogue=[entry(hub.source)])
    arrived = asyncio.Event()

    def listen(progress: Progress) -> None:
        if progress.done_bytes >= 1_000_000:
            arrived.set()

    only = asyncio.create_task(weights.ensure("tiny", listen))
    await arrived.wait()

    only.cancel()
    await asyncio.wait([only])

    assert [t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("pull")] == []
    assert weights.progress("tiny").message.startswith("stopped")
    hub.held_at = None
    hub.release.set()
    await weights.ensure("tiny")
    assert hub.ranges[1] is not None
    assert int(hub.ranges[1][6:-1]) >= 1_000_000


async def test_progress_is_told_from_nothing_to_ready(folder: Path, hub: LocalHub) -> None:
    told: list[Progress] = []
    weights = Weights(folder, catalogue=[entry(hub.source)])
    before = weights.progress("tiny")

    await weights.ensure("tiny", told.append)

    counts = [progress.done_bytes for progress in told if progress.stage == "downloading"]
    assert before.stage == "waiting"
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, len(BODY))
    assert told[-1] == weights.progress("tiny")
    assert (told[-1].stage, told[-1].done_bytes) == ("ready", len(BODY))


async def test_a_pull_waits_for_the_process_that_is_pulling(folder: Path, hub: LocalHub) -> None:
    weights = Weights(folder, catalogue=[entry(hub.source)])
    waiting = asyncio.Event()

    def listen(progress: Progress) -> None:
        if progress.stage == "waiting":
            waiting.set()

    (folder / ".pull").mkdir(parents=True)
    with FileLock(folder / ".pull" / "tiny.lock", thread_local=False):
        pull = asyncio.create_task(weights.ensure("tiny", listen))
        await waiting.wait()
        asked_while_waiting = list(hub.ranges)

    await pull
    assert asked_while_waiting == []
    assert weights.present("tiny")


PULL = """
import asyncio, sys
from pathlib import Path
import msgspec
from sonia.weights import Weights, WeightsEntry
one = msgspec.json.decode(sys.argv[2], type=WeightsEntry)
asyncio.run(Weights(Path(sys.argv[1]), catalogue=[one]).ensure(one.name))
"""


async def test_two_processes_that_pull_at_once_fetch_once_and_both_end_well(
    folder: Path, hub: LocalHub
) -> None:
    one = msgspec.json.encode(entry(hub.source)).decode()
    argv = [sys.executable, "-c", PULL, str(folder), one]
    both = [await asyncio.create_subprocess_exec(*argv) for _ in range(2)]

    codes = await asyncio.gather(*[process.wait() for process in both])

    assert codes == [0, 0]
    assert hub.ranges == [None]
    assert (folder / "tiny" / "model.bin").read_bytes() == BODY


async def test_r04_a_file_size_limit_leaves_nothing_under_the_final_name(
    folder: Path, hub: LocalHub
) -> None:
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, hard))
    try:
        with pytest.raises(StorageFull, match=r"model\.bin"):
            await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not (folder / "tiny" / "model.bin").exists()


async def test_r03_a_pull_that_cannot_fit_is_refused_before_it_begins(folder: Path) -> None:
    huge = WeightsFile(path="model.bin", size_bytes=1 << 60, sha256="0" * 64)
    one = WeightsEntry(
        name="huge", role="llm", summary="", licence="MIT", files=(huge,), sources=()
    )

    with pytest.raises(StorageFull, match="needs 1152921504606846976 bytes"):
        await Weights(folder, catalogue=[one]).ensure("huge")


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path, hub: LocalHub) -> None:
    (tmp_path / "models").write_text("a file where the folder should be")

    with pytest.raises(Unavailable, match="Cannot write"):
        await Weights(tmp_path / "models", catalogue=[entry(hub.source)]).ensure("tiny")
