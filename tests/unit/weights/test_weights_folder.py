"""Weights on this disk: given by the user, checked, tampered with; and the catalogue."""

from __future__ import annotations

from pathlib import Path

import pytest
from weights_given import BODY, OTHER, LocalHub, entry, sha256

from sonia.config import parse
from sonia.errors import NotFound
from sonia.weights import Weights, WeightsDamaged, WeightsMissing, needed
from sonia.weights.catalogue import CATALOGUE, Packages


@pytest.mark.parametrize("place", ["tiny/model.bin", "model.bin"])
async def test_a_named_folder_comes_before_the_hub(
    folder: Path, hub: LocalHub, tmp_path: Path, place: str
) -> None:
    given = tmp_path / "stick" / place
    given.parent.mkdir(parents=True)
    given.write_bytes(BODY)
    weights = Weights(folder, local_folders=[tmp_path / "stick"], catalogue=[entry(hub.source)])

    files = await weights.ensure("tiny")

    assert hub.ranges == []
    assert files["model.bin"].read_bytes() == BODY


async def test_t47_a_damaged_file_in_a_named_folder_is_not_taken(
    folder: Path, hub: LocalHub, tmp_path: Path
) -> None:
    (tmp_path / "model.bin").write_bytes(BODY[:-1] + b"X")
    weights = Weights(folder, local_folders=[tmp_path], catalogue=[entry(hub.source)])

    files = await weights.ensure("tiny")

    assert files["model.bin"].read_bytes() == BODY


async def test_missing_weights_are_named_with_the_command_that_brings_them(folder: Path) -> None:
    weights = Weights(folder, catalogue=[entry()])

    with pytest.raises(WeightsMissing, match="sonia models pull tiny") as missing:
        await weights.files("tiny")

    assert missing.value.details["missing"] == ["model.bin"]
    assert not weights.present("tiny")


@pytest.mark.parametrize(
    "found", [BODY[:-1] + b"X", BODY[:-1], OTHER], ids=["flipped", "truncated", "swapped"]
)
async def test_t47_a_tampered_file_is_refused_and_a_pull_replaces_it(
    folder: Path, hub: LocalHub, found: bytes
) -> None:
    weights = Weights(folder, catalogue=[entry(hub.source)])
    path = (await weights.ensure("tiny"))["model.bin"]
    path.write_bytes(found)

    with pytest.raises(WeightsDamaged) as refused:
        await weights.files("tiny")
    await weights.ensure("tiny")

    assert refused.value.details["expected"] == sha256(BODY)
    assert refused.value.details["found"] == sha256(found)
    assert path.read_bytes() == BODY


async def test_verify_tells_ok_damaged_and_missing_apart(folder: Path, hub: LocalHub) -> None:
    hub.files = {"a.bin": BODY, "b.bin": OTHER, "c.bin": b"c"}
    weights = Weights(folder, catalogue=[entry(hub.source, files=hub.files)])
    paths = await weights.ensure("tiny")
    paths["b.bin"].write_bytes(b"tampered")
    paths["c.bin"].unlink()

    checks = await weights.verify("tiny")

    assert [(c.path, c.state) for c in checks] == [
        ("a.bin", "ok"),
        ("b.bin", "damaged"),
        ("c.bin", "missing"),
    ]
    assert checks[1].found == sha256(b"tampered")


def test_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"There are: tiny\."):
        Weights(folder, catalogue=[entry()]).entry("huge")


def test_every_file_of_the_catalogue_can_come_from_some_source() -> None:
    assert len({one.name for one in CATALOGUE}) == len(CATALOGUE)
    for one in CATALOGUE:
        packages = [p for s in one.sources if isinstance(s, Packages) for p in s.packages]
        for file in one.files:
            assert any(package.member(file.path) for package in packages), file.path


def test_the_default_configuration_needs_a_model_that_answers_and_one_that_finds() -> None:
    roles = {one.name: one.role for one in CATALOGUE}

    names = needed(parse({}))

    assert [roles[name] for name in names] == ["llm", "embedding"]


def test_vectors_from_ollama_need_no_weights() -> None:
    vectors = {"embeddings": {"provider": "ollama", "model": "m"}}
    ollama = {"providers": {"ollama": {"base_url": "http://127.0.0.1:11434"}}}
    remote = {"services": {"memory_engine": vectors, "model_router": ollama}}

    assert needed(parse(remote)) == ("qwen2.5-coder-0.5b-instruct",)
