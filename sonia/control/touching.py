"""What a call touches, as its checked arguments say it: paths, hosts, a command.

Tools name their arguments alike, so that rules can be written about them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from sonia.control.interface import Plan
from sonia.types import Value

PATHS = frozenset(("path", "paths", "folder", "source", "destination", "to", "from", "file"))
HOSTS = frozenset(("url", "urls", "host", "address"))
COMMAND = "command"


class Touched(Value):
    """Paths as given, host names in lower case, and the command line if there is one.

    `programs` are all that it runs, one by one; none when that can't be told for certain.
    `named` are the paths among the arguments, `paths` also those of files read to plan the call.
    """

    named: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    command: str | None = None
    programs: tuple[str, ...] = ()


def touched(plan: Plan) -> Touched:
    """What `plan` touches."""
    command = plan.arguments.get(COMMAND)
    named = tuple(dict.fromkeys(_texts(plan.arguments, PATHS)))
    return Touched(
        named=named,
        paths=tuple(dict.fromkeys((*named, *plan.digests))),
        hosts=tuple(dict.fromkeys(map(_host, _texts(plan.arguments, HOSTS)))),
        command=command if isinstance(command, str) else None,
        programs=plan.programs,
    )


def escapes(path: str) -> bool:
    """Whether a path leads out of the workspace by how it is spelled."""
    return path.startswith(("/", "~", "\\")) or path[1:2] == ":" or ".." in _parts(path)


def _parts(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")


def _texts(arguments: dict[str, Any], names: frozenset[str]) -> Iterator[str]:
    for name, value in arguments.items():
        if name in names:
            values = value if isinstance(value, list | tuple) else [value]
            yield from (one for one in values if isinstance(one, str))


def _host(url: str) -> str:
    try:
        return (urlsplit(url if "//" in url else f"//{url}").hostname or "").lower()
    except ValueError:
        return ""
