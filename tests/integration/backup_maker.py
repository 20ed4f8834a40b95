"""A process that makes one backup after the other, or restores, until it is killed."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sonia import app, backups, restoring, schema
from sonia.types import now
from tests.memory_given import MIGRATIONS


def keep_making(data: Path) -> None:
    """Say so when the first begins."""
    print("begun", flush=True)
    while True:
        made = backups.make(data / "sonia.db", data / "backups", app.CHECKERS, now())
        print(made.name, flush=True)


def dying(function: Callable[..., Any], after: bool) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if after:
            function(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    return run


def restore_and_die(data: Path, backup: Path, where: str) -> None:
    """`where` is a step of restoring, and whether it is killed before or after it."""
    name, _, when = where.partition(":")
    places: dict[str, tuple[Any, str]] = {
        "check": (restoring, "check_backup"),
        "copy": (backups, "copy"),
        "migrate": (schema, "migrate"),
        "prepare": (restoring, "prepare"),
        "link": (os, "link"),
        "exchange": (restoring, "_exchange"),
    }
    module, attribute = places[name]
    setattr(module, attribute, dying(getattr(module, attribute), when == "after"))
    restoring.restore(backup, data / "sonia.db", MIGRATIONS, app.CHECKERS, app.mend, now())


if __name__ == "__main__":
    if sys.argv[1] == "make":
        keep_making(Path(sys.argv[2]))
    else:
        restore_and_die(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])
