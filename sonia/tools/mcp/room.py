"""Where an MCP server's program runs: a sandbox with what it needs and what was given to it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from sonia.config import McpServer
from sonia.tools.bubblewrap import (
    SEALED,
    SEEN,
    confined,
    find_bubblewrap,
    interpreter,
    landlocked,
    walls,
)
from sonia.types import Value

HOME = "/tmp"  # noqa: S108  the sandbox's own, empty each time
_NAMES = ("/etc/resolv.conf", "/etc/hosts", "/etc/gai.conf")
_LINKS = 8  # from a script to what reads it, and on


class Around(Value):
    """What a server's program may not see (`hidden`) or change (`own`), and the workspace."""

    workspace: Path
    hidden: tuple[Path, ...] = ()
    own: tuple[Path, ...] = ()


def sandboxed(server: McpServer, around: Around) -> list[str]:
    """The words that start a server's program in its sandbox. Raises `SandboxMissing`.

    It sees the system's programs, what its own program is made of, and `reads` and `writes`,
    all where they are outside; what is relative is so to the workspace.
    """
    workspace = around.workspace.resolve()
    reads = [_place(name, workspace) for name in server.reads]
    writes = [_place(name, workspace) for name in server.writes]
    second = landlocked() and not server.network  # that wall knows no addresses
    needed = [str(path) for path in made_of(server.command[0])]
    seen = tuple(dict.fromkeys((*SEEN, *(interpreter() if second else ()), *needed)))
    argv = walls(find_bubblewrap(), seen, ())
    if server.network:
        argv.append("--share-net")
        for name in _NAMES:
            argv += ["--ro-bind-try", name, name]
    for path in reads:
        argv += ["--ro-bind", str(path), str(path)]
    for path in writes:
        argv += ["--bind", str(path), str(path)]
    shown = (*(Path(name) for name in seen), *reads, *writes)
    for folder in around.hidden:
        if any(folder.is_relative_to(path) for path in shown):
            argv += ["--tmpfs", str(folder)]
    for path in around.own:
        if any(path.is_relative_to(given) for given in writes):
            argv += ["--ro-bind-try", str(path), str(path)]
    given = (*writes, *reads)
    argv += ["--chdir", str(workspace if workspace in given else HOME)]
    words = list(server.command)
    if second:
        words = confined(words, *(str(path) for path in writes))
    return [*argv, *SEALED, "--", *words]


def _place(name: str, workspace: Path) -> Path:
    return (workspace / Path(name).expanduser()).resolve()


def made_of(program: str) -> tuple[Path, ...]:
    """The folders that a program is in, with what runs it: an environment, an interpreter."""
    found: list[Path] = []
    at: str | None = program
    for _ in range(_LINKS):
        path = shutil.which(at) if at else None
        if path is None:
            break
        for place in _links(Path(path).absolute()):
            found += _prefix(place)
        at = _interpreter(Path(path))
    system = [Path(name) for name in SEEN]
    return tuple(
        path
        for path in dict.fromkeys(found)
        if not any(path.is_relative_to(name) for name in system)
    )


def _links(path: Path) -> Iterator[Path]:
    """The path, and each that it is a link to."""
    for _ in range(_LINKS):
        yield path
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _prefix(program: Path) -> list[Path]:
    """What is around one program: its installation, or its folder where many things are."""
    folder = Path(os.path.normpath(program.parent))
    if folder.name != "bin":
        return [folder]
    prefix, home = folder.parent, Path.home()
    if environment := _environment(prefix):
        return [prefix, *_prefix(environment / program.name)]
    crowded = home.is_relative_to(prefix) or prefix == home / ".local"
    return [folder] if crowded else [prefix]


def _environment(prefix: Path) -> Path | None:
    """The programs' folder of the Python that a virtual environment was made from."""
    try:
        lines = (prefix / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    named = (line.partition("=") for line in lines)
    return next((Path(value.strip()) for key, _, value in named if key.strip() == "home"), None)


def _interpreter(script: Path) -> str | None:
    """The program that a script names in its first line."""
    try:
        with script.open("rb") as file:
            first = file.readline(1024)
    except OSError:
        return None
    words: Sequence[str] = os.fsdecode(first[2:]).split() if first.startswith(b"#!") else ()
    if len(words) > 1 and Path(words[0]).name == "env":
        return next((word for word in words[1:] if not word.startswith("-")), None)
    return words[0] if words else None
