"""From a machine with only Python to one that can run Sonia: `python3 -m sonia.bootstrap`.

Makes `.venv` beside the checkout's `requirements.lock`, installs exactly what the lock pins
(every hash checked), and puts Sonia and her `sonia` command in it. Only
the standard library is used here, and nothing that an old Python could not at least read.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

WANTED = (3, 11)
GUARD = "SONIA_BOOTSTRAPPED"
CHECKOUT = Path(__file__).resolve().parent.parent
HELP = """\
usage: python3 -m sonia.bootstrap [--dev] [--] [ARGS ...]

Prepare .venv from requirements.lock (with --dev: requirements-dev.lock), then run its Python
with ARGS. Prepared already, that costs a few milliseconds.

  python3 -m sonia.bootstrap                      only prepare
  python3 -m sonia.bootstrap -m sonia serve       prepare and serve
  python3 -m sonia.bootstrap --dev -m pytest      prepare and test
"""


class BootstrapError(Exception):
    """It can't go on; the text says what to do."""


def main(argv: list[str] | None = None) -> int:
    """Run the command line above; comes back only when there is nothing to run."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    dev = arguments[:1] == ["--dev"]
    arguments = arguments[dev:]
    arguments = arguments[arguments[:1] == ["--"] :]
    try:
        python = prepare(CHECKOUT, dev=dev)
    except BootstrapError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("Stopped. The same command goes on where this one left off.")
        return 130
    return hand_over(python, arguments) if arguments else 0


def prepare(checkout: Path, *, dev: bool = False) -> Path:
    """Return the Python of a `.venv` that matches the lock, made or refreshed if need be.

    Raises `BootstrapError`. Two at once wait for each other; one that was interrupted is redone.
    """
    if sys.version_info < WANTED:
        raise BootstrapError(_too_old())
    locks = {name: checkout / f"{name}.lock" for name in ("requirements", "requirements-dev")}
    if not locks["requirements"].is_file():
        raise BootstrapError(
            f"{checkout} is not a checkout of Sonia: it has no requirements.lock. "
            "Run this from a clone, or install the package with pip."
        )
    wanted = {name: _digest(path) for name, path in locks.items() if dev or "dev" not in name}
    folder = checkout / ".venv"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if _fits(folder, python, wanted):
        return python
    with _alone(locks["requirements"]):
        if not _fits(folder, python, wanted):
            _build(checkout, folder, python, locks["requirements-dev" if dev else "requirements"])
            _stamp(folder).write_text("".join(f"{n} {d}\n" for n, d in wanted.items()))
    return python


def hand_over(python: Path, arguments: list[str]) -> int:
    """Become `python ARGUMENTS`; on Windows, run it and return its exit status."""
    os.environ[GUARD] = "1"
    command = [str(python), *arguments]
    sys.stdout.flush()
    if os.name != "nt":
        os.execv(command[0], command)  # noqa: S606  no shell is the point
    import subprocess

    return subprocess.call(command)


def say(text: str) -> None:
    """Tell the person at the terminal."""
    print(text, file=sys.stderr, flush=True)


def _too_old() -> str:
    import shutil

    newer = [f"python3.{minor}" for minor in range(15, 10, -1) if shutil.which(f"python3.{minor}")]
    hint = (
        f"There is {newer[0]} on this machine: use it instead of python3."
        if newer
        else (
            "Install a newer Python from https://www.python.org/downloads/ or your package manager."
        )
    )
    return f"Sonia needs Python 3.11 or newer; {sys.executable} is {sys.version.split()[0]}. {hint}"


# --- is it there already? ----------------------------------------------------------------


def _stamp(folder: Path) -> Path:
    return folder / "sonia-locks.txt"


def _fits(folder: Path, python: Path, wanted: dict[str, str]) -> bool:
    """Whether the stamp has every wanted lock; the development lock holds all of the other."""
    try:
        lines = _stamp(folder).read_text().splitlines()
    except OSError:
        return False
    return python.exists() and set(lines) >= {f"{name} {d}" for name, d in wanted.items()}


def _digest(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Lock the lock file itself, so that of two bootstraps one works and the other waits."""
    with lock.open("rb") as file:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 30)  # past the end, where nobody reads
            msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
        else:
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say("Another bootstrap is at work here; waiting for it.")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- making it -----------------------------------------------------------------------------


def _build(checkout: Path, folder: Path, python: Path, lock: Path) -> None:
    import time

    began = time.monotonic()
    _stamp(folder).unlink(missing_ok=True)
    _make_environment(folder, python)
    _install(python, lock)
    _link(checkout, folder, python)
    say(f"Ready in {time.monotonic() - began:.0f} s: {folder}")


def _make_environment(folder: Path, python: Path) -> None:
    """Make the environment, or mend one whose Python is gone or too old."""
    import importlib.util

    if not _runs(python, "import sys; sys.exit(sys.version_info < (3, 11))"):
        if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
            raise BootstrapError(_no_venv())
        say(f"Making a virtual environment in {folder}")
        clear = ["--clear"] if folder.exists() else []
        _run([sys.executable, "-m", "venv", *clear, str(folder)])
    if not _runs(python, "import pip"):
        _run([str(python), "-m", "ensurepip", "--default-pip"])


def _no_venv() -> str:
    return (
        f"This Python ({sys.executable}) can't make virtual environments. On Debian and Ubuntu: "
        f"sudo apt install python3-venv (or python3.{sys.version_info[1]}-venv). "
        "Then run the same command again."
    )


def _runs(python: Path, program: str) -> bool:
    import subprocess

    try:
        return subprocess.run([str(python), "-c", program], capture_output=True).returncode == 0
    except OSError:
        return False


def _run(command: list[str]) -> str:
    """Return what `command` printed; raises `BootstrapError` with that when it fails."""
    import subprocess

    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        said = (done.stdout + done.stderr).strip()
        if "ensurepip" in said:  # Debian's venv finds out only now
            said = f"{_no_venv()}\n{said}"
        raise BootstrapError(f"{' '.join(command)} failed:\n{said}")
    return done.stdout


def _install(python: Path, lock: Path) -> None:
    """Install the lock, telling how far it is.

    Wheels only, so that no package's code runs meanwhile; one that the tests need comes as source.
    """
    import re
    import subprocess

    total = len(re.findall(r"^[A-Za-z0-9][\w.-]*==", lock.read_text(), re.MULTILINE))
    say(
        f"Installing the {total} pinned packages of {lock.name}; the first time takes a few minutes"
    )
    wheels = [] if "dev" in lock.name else ["--only-binary=:all:"]
    command = [
        str(python), "-m", "pip", "install", "--no-deps", "--require-hashes", *wheels, "--no-input",
        "--disable-pip-version-check", "--progress-bar=off", "-r", str(lock),
    ]  # fmt: skip
    told: list[str] = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        for line in pip.stdout or ():
            told.append(line)
            if line.startswith(("Collecting ", "Requirement already satisfied: ")):
                _count(sum(t[:4] in ("Coll", "Requ") for t in told), total, line)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if pip.returncode:
        wrong = [line for line in told if line.startswith("ERROR")]
        said = "".join(wrong or told[-12:]).strip()
        raise BootstrapError(
            f"pip could not install {lock.name}:\n{said}\nRun this again to retry."
        )


def _count(done: int, total: int, line: str) -> None:
    if sys.stderr.isatty():
        name = line.split(": ")[-1].removeprefix("Collecting ").split()[0]
        print(f"\r\033[K  {done}/{total} {name}", end="", file=sys.stderr, flush=True)


def _link(checkout: Path, folder: Path, python: Path) -> None:
    """Make `import sonia` and the `sonia` command work in there, straight from the checkout.

    What an editable install does, without a build backend that would have to be downloaded.
    """
    where = _run([str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"])
    Path(where.strip(), "sonia-checkout.pth").write_text(f"{checkout}\n")
    if os.name == "nt":
        script = folder / "Scripts" / "sonia.cmd"
        script.write_text(f'@"{python}" -m sonia %*\r\n')
        return
    script = folder / "bin" / "sonia"
    script.write_text(f'#!/bin/sh\nexec "{python}" -m sonia "$@"\n')
    script.chmod(0o755)


if __name__ == "__main__":
    sys.exit(main())
