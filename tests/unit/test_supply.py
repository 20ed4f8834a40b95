"""What comes from outside is what was locked: by hash, and nothing of it starts itself."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from sonia import supply

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-dev.lock")
SITE = Path(sysconfig.get_path("purelib"))


def locked(name: str) -> dict[str, str]:
    """Each requirement of a lock with the lines that belong to it."""
    text = (ROOT / name).read_text(encoding="utf-8")
    found = re.findall(r"^([a-z0-9][\w.-]*)==((?:.*\\\n)*.*)", text, re.MULTILINE)
    assert len(found) > 50
    return {package: rest for package, rest in found}


@pytest.mark.parametrize("name", LOCKS)
def test_t45_every_requirement_is_locked_by_hash_and_none_is_a_bad_release(name: str) -> None:
    packages = locked(name)
    versions = {package: rest.split()[0] for package, rest in packages.items()}

    assert [package for package, rest in packages.items() if "--hash=sha256:" not in rest] == []
    assert list(supply.denied(versions)) == []
    assert "://" not in (ROOT / name).read_text(encoding="utf-8")


def test_t45_a_denied_release_is_named() -> None:
    assert list(supply.denied({"litellm": "1.82.8", "httpx": "0.28.1"})) == [("litellm", "1.82.8")]


def test_t45_nothing_installed_here_starts_itself_or_is_denied() -> None:
    installed = {dist.name.lower(): dist.version for dist in importlib.metadata.distributions()}

    assert list(supply.self_starting(SITE)) == []
    assert list(supply.denied(installed)) == []


def test_t45_a_planted_file_that_starts_itself_is_found(tmp_path: Path) -> None:
    (tmp_path / "checkout.pth").write_text("/some/folder\n")
    (tmp_path / "distutils-precedence.pth").write_text("import os; pass\n")
    planted = tmp_path / "litellm_init.pth"
    planted.write_text("# harmless\nimport os, subprocess; subprocess.Popen(['x'])\n")

    assert list(supply.self_starting(tmp_path)) == [planted]


def test_t45_pip_refuses_a_file_whose_hash_changed(tmp_path: Path) -> None:
    """The same pip and the same flag with which Sonia installs; nothing is fetched."""
    wheel = tmp_path / "little-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("little.py", "")
        about = "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n"
        archive.writestr("little-1.0.dist-info/METADATA", about)
        archive.writestr("little-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("little-1.0.dist-info/RECORD", "")
    lock = tmp_path / "lock"
    lock.write_text(f"little==1.0 --hash=sha256:{'0' * 64}\n")

    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-index", "--find-links", str(tmp_path),
         "--no-deps", "--require-hashes", "--target", str(tmp_path / "into"), "-r", str(lock)],
        capture_output=True,
        text=True,
        timeout=100,
    )  # fmt: skip

    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "into").exists()
