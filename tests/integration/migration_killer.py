"""Migrates copies of a database, killed before each statement in turn, and looks what is left."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from sonia import db, schema
from tests import golden
from tests.memory_given import MIGRATIONS

opened = db.connect


def connect_to_die(statement: int) -> Any:
    """`connect`, whose connections end the process before the statement of this number."""
    left = itertools.count(statement, -1)

    def trace(*_: Any) -> bool:
        if next(left) == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return True

    def connect(path: Path, *, read_only: bool = False) -> apsw.Connection:
        connection = opened(path, read_only=read_only)
        connection.exec_trace = trace
        return connection

    return connect


def killed(path: Path, statement: int) -> bool:
    """Migrate in a child; whether it was killed before it was done."""
    child = os.fork()
    if child == 0:
        db.connect = connect_to_die(statement)
        db._prepare(path, MIGRATIONS)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def main(whole: Path, work: Path) -> None:
    """Say how many kills it survived, or what it lost."""
    with closing(opened(whole)) as c:
        before, old = golden.rows(c), set(schema.applied_to(c))
    for statement in itertools.count():
        folder = work / str(statement)
        folder.mkdir(parents=True)
        path = folder / "sonia.db"
        shutil.copy(whole, path)
        if not killed(path, statement):
            break
        with closing(opened(path)) as c:
            applied = set(schema.applied_to(c))
            assert applied in (old, set(golden.LEVELS)), f"{statement}: {sorted(applied)}"
            assert golden.rows(c, before) == before, f"{statement}: rows are missing"
        db._prepare(path, MIGRATIONS)
        with closing(opened(path)) as c:
            assert set(schema.applied_to(c)) == set(golden.LEVELS)
            assert golden.rows(c, before) == before, f"{statement}: rows are missing at last"
        copies = [p.name for p in folder.iterdir() if ".before-" in p.name]
        assert all(not name.endswith(".part") for name in copies), copies
        shutil.rmtree(folder)
    print(statement)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
