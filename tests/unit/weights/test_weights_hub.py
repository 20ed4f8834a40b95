"""Weights from a hub: a real server on port 0, with its faults."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_given import BODY, OTHER, LocalHub, closed_hub, entry

from sonia.errors import Unavailable, UpstreamError
from sonia.weights import Weights


async def test_a_missing_file_is_downloaded_and_has_the_pinned_bytes(
    folder: Path, hub: LocalHub
) -> None:
    weights = Weights(folder, catalogue=[entry(hub.source)])

    files = await weights.ensure("tiny")

    assert files == {"model.bin": folder / "tiny" / "model.bin"}
    assert files["model.bin"].read_bytes() == BODY
    assert weights.present("tiny")


async def test_weights_that_are_here_are_not_asked_for_again(folder: Path, hub: LocalHub) -> None:
    await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")
    hub.ranges.clear()

    await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert hub.ranges == []


async def test_a_download_that_broke_goes_on_where_it_was(folder: Path, hub: LocalHub) -> None:
    hub.cut_at = [1_000_000]

    files = await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert hub.ranges[0] is None
    assert hub.ranges[1] is not None
    assert 0 < int(hub.ranges[1][6:-1]) <= 1_000_000
    assert files["model.bin"].read_bytes() == BODY


async def test_a_pull_goes_on_where_an_earlier_one_stopped(folder: Path, hub: LocalHub) -> None:
    part = folder / "tiny" / "model.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(BODY[:1234])

    await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert hub.ranges == ["bytes=1234-"]
    assert not part.exists()


async def test_a_hub_without_ranges_is_read_from_the_start(folder: Path, hub: LocalHub) -> None:
    hub.knows_ranges, hub.cut_at = False, [1_000_000]

    files = await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert files["model.bin"].read_bytes() == BODY


async def test_a_hub_that_always_breaks_is_given_up_and_leaves_a_part(
    folder: Path, hub: LocalHub
) -> None:
    hub.cut_at = [500_000, 500_000, 500_000, 500_000]

    with pytest.raises(UpstreamError, match=r"model\.bin"):
        await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert len(hub.ranges) == 3
    assert (folder / "tiny" / "model.bin.part").stat().st_size > 0
    assert not (folder / "tiny" / "model.bin").exists()


async def test_t47_a_kept_part_with_a_flipped_byte_is_thrown_away(
    folder: Path, hub: LocalHub
) -> None:
    part = folder / "tiny" / "model.bin.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"X" + BODY[1:5000])

    files = await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert hub.ranges == ["bytes=5000-", None]
    assert files["model.bin"].read_bytes() == BODY


@pytest.mark.parametrize(
    "sent",
    [BODY[:-1] + b"X", BODY[:-1], BODY + b"X", OTHER, b""],
    ids=["flipped", "truncated", "longer", "swapped", "empty"],
)
async def test_t47_a_hub_that_sends_other_bytes_is_refused(
    folder: Path, hub: LocalHub, sent: bytes
) -> None:
    hub.files["model.bin"] = sent

    with pytest.raises(UpstreamError, match=r"model\.bin") as refused:
        await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")

    assert refused.value.details["missing"] == ["model.bin"]
    assert not (folder / "tiny" / "model.bin").exists()


async def test_an_unreachable_hub_is_passed_over_for_every_file_and_entry(
    folder: Path, hub: LocalHub
) -> None:
    closed = closed_hub()
    files = {"model.bin": BODY, "other.bin": OTHER}
    hub.files = files
    both = [
        entry(closed, hub.source, name="first", files=files),
        entry(closed, name="second", files=files),
    ]
    weights = Weights(folder, catalogue=both)

    await weights.ensure("first")
    with pytest.raises(UpstreamError, match="not reachable a moment ago"):
        await weights.ensure("second")

    assert weights.present("first")


async def test_every_source_that_failed_is_named_with_its_reason(
    folder: Path, hub: LocalHub, tmp_path: Path
) -> None:
    hub.files.clear()
    weights = Weights(
        folder, local_folders=[tmp_path / "stick"], catalogue=[entry(closed_hub(), hub.source)]
    )

    with pytest.raises(UpstreamError) as refused:
        await weights.ensure("tiny")

    for_folder, for_closed, for_hub = refused.value.details["sources"]
    assert "stick: it has no tiny/model.bin" in for_folder
    assert "not reachable" in for_closed
    assert "HTTP 404" in for_hub
    assert weights.progress("tiny").stage == "failed"


async def test_offline_nothing_is_fetched_and_what_to_do_is_said(
    folder: Path, hub: LocalHub
) -> None:
    offline = Weights(folder, catalogue=[entry(hub.source)], offline=True)

    with pytest.raises(Unavailable, match=r"offline is true.*sonia models pull tiny"):
        await offline.ensure("tiny")

    assert hub.ranges == []
    await Weights(folder, catalogue=[entry(hub.source)]).ensure("tiny")
    assert (await offline.ensure("tiny"))["model.bin"].read_bytes() == BODY
