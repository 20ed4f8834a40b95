"""From only Python to a prepared environment: real venvs, one tiny real wheel, no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from sonia import bootstrap
from sonia.bootstrap import BootstrapError, prepare

ROOT = Path(__file__).parents[2]
METADATA = "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n"
WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
NEEDED = ("msgspec", "apsw", "litestar", "structlog", "uvicorn")


def wheel(folder: Path) -> str:
    """Write a wheel that stands in for every package; return its SHA-256."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in (*NEEDED, "tiny"):
            archive.writestr(f"{name}.py", "")
        archive.writestr("tiny-1.0.dist-info/METADATA", METADATA)
        archive.writestr("tiny-1.0.dist-info/WHEEL", WHEEL)
        archive.writestr("tiny-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with our own `__main__` and bootstrap, whose one command says where it runs."""
    root = tmp_path_factory.mktemp("clone")
    commands = root / "sonia" / "commands"
    commands.mkdir(parents=True)
    for name in ("__main__.py", "bootstrap.py"):
        shutil.copy(ROOT / "sonia" / name, root / "sonia" / name)
    (root / "sonia" / "__init__.py").touch()
    (commands / "__init__.py").touch()
    (commands / "line.py").write_text(
        "import sys\ndef run(arguments):\n    print(sys.prefix, *arguments)\n    return 7\n"
    )
    digest = wheel(root)
    for name in ("requirements.lock", "requirements-dev.lock"):
        (root / name).write_text(f"tiny==1.0 --hash=sha256:{digest}\n")
    return root


def call(clone: Path, *arguments: str, **more: str) -> subprocess.Popen[str]:
    """Run the machine's Python, which has no packages, in the clone."""
    environ = {name: value for name, value in os.environ.items() if name != bootstrap.GUARD}
    environ |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(clone), "PIP_CONFIG_FILE": os.devnull}
    base = getattr(sys, "_base_executable", sys.executable)
    return subprocess.Popen(
        [base, "-S", "-m", *arguments],
        cwd=clone,
        env=environ | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_first_starts_at_once_prepare_one_environment(clone: Path) -> None:
    both = [call(clone, "sonia", "serve", "--x") for _ in range(2)]

    said = [process.communicate() for process in both]

    assert [process.returncode for process in both] == [7, 7], said
    assert [out for out, _ in said] == [f"{clone / '.venv'} serve --x\n"] * 2
    assert sum("Making a virtual environment" in err for _, err in said) == 1
    assert sum("waiting for it" in err for _, err in said) <= 1


def test_a_prepared_environment_is_used_without_a_word(clone: Path) -> None:
    process = call(clone, "sonia", "status")

    out, err = process.communicate()

    assert (out, err) == (f"{clone / '.venv'} status\n", "")


def test_the_sonia_command_works_from_anywhere(clone: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [clone / ".venv/bin/sonia", "chat"], cwd=tmp_path, capture_output=True, text=True
    )

    assert done.stdout == f"{clone / '.venv'} chat\n", done.stderr
    assert done.returncode == 7


def test_arguments_go_to_the_prepared_python(clone: Path) -> None:
    process = call(clone, "sonia.bootstrap", "--dev", "--", "-c", "import tiny; print(6 * 7)")

    out, err = process.communicate()

    assert out == "42\n", err
    assert "requirements-dev.lock" in err


def test_a_changed_lock_is_installed_again_and_a_wrong_hash_refused(clone: Path) -> None:
    lock = clone / "requirements.lock"
    before = lock.read_text()
    lock.write_text(f"{before}# changed\n")
    renewed = call(clone, "sonia.bootstrap").communicate()[1]
    for path in (clone / ".venv").rglob("tiny*"):  # so that pip has to look at the wheel
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    lock.write_text("tiny==1.0 --hash=sha256:" + "0" * 64 + "\n")
    process = call(clone, "sonia", "serve")

    out, err = process.communicate()
    lock.write_text(before)

    assert "Ready in" in renewed
    assert process.returncode == 1
    assert "DO NOT MATCH THE HASHES" in err
    assert out == ""


def test_packages_that_stay_missing_are_no_endless_loop(clone: Path) -> None:
    process = call(clone, "sonia", "serve", **{bootstrap.GUARD: "1"})

    _, err = process.communicate()

    assert process.returncode == 1
    assert "still lacks packages" in err


def test_outside_a_clone_it_says_how_to_install(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "sonia", tmp_path / "sonia", ignore=shutil.ignore_patterns("__pycache__")
    )
    process = call(tmp_path, "sonia", "serve")

    _, err = process.communicate()

    assert process.returncode == 1
    assert "pip install --force-reinstall sonia" in err
    assert not (tmp_path / ".venv").exists()


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, clone: Path) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 2, "final", 0))

    with pytest.raises(BootstrapError, match=r"needs Python 3\.11 or newer"):
        prepare(clone)


def test_a_python_that_can_make_no_environments_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "requirements.lock").touch()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(BootstrapError, match="apt install python3-venv"):
        prepare(tmp_path)


def test_a_folder_without_a_lock_is_no_clone(tmp_path: Path) -> None:
    with pytest.raises(BootstrapError, match=r"no requirements\.lock"):
        prepare(tmp_path)
