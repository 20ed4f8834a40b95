"""Whether the database is what was written: SQLite's own checks, and digests of single rows.

A module knows how its rows are checked (`Checker`); a database file is checked with those of all.
What a read comes across by itself it says with `report`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw
import msgspec

from sonia.types import Damage, Integrity

MOST_FAULTS = 100  # of SQLite's, told in one check
MOST_DAMAGE = 1_000  # rows, told in one check; all are counted
STEPS = 100_000  # of SQLite's machine, between two looks at whether to stop

_of_thread = threading.local()


class Batch(msgspec.Struct, frozen=True):
    """Some rows of a table were looked at, and these of them are not what was written."""

    place: str
    rows: int
    damaged: Sequence[Damage] = ()


Checker = Callable[[apsw.Connection], Iterator[Batch]]


class Stopped(Exception):
    """The check was told to end."""


def report(place: str, number: int, why: str, version: int = 0) -> None:
    """Say, from inside a read or write of a `Database`, that this row is not what was written."""
    found: list[Damage] | None = getattr(_of_thread, "found", None)
    if found is not None:
        found.append(Damage(place=place, number=number, version=version, why=why))


@contextmanager
def reports() -> Iterator[list[Damage]]:
    """What is reported in this thread until left."""
    before = getattr(_of_thread, "found", None)
    found: list[Damage] = []
    _of_thread.found = found
    try:
        yield found
    finally:
        _of_thread.found = before


def check(
    connection: apsw.Connection,
    checkers: Sequence[Checker],
    *,
    stop: threading.Event | None = None,
    duty: float = 1.0,
) -> Integrity:
    """Read all of a database. Blocks; raises `Stopped` soon after `stop` is set.

    `duty` is the share of the time that it may work: below 1 it rests in between.
    """
    started = time.perf_counter()
    faults = _faults(connection, stop, duty)
    rows: dict[str, int] = {}
    damaged: list[Damage] = []
    count = 0
    for checker in checkers:
        try:
            for batch in _paced(checker(connection), stop, duty):
                rows[batch.place] = rows.get(batch.place, 0) + batch.rows
                count += len(batch.damaged)
                damaged += batch.damaged[: MOST_DAMAGE - len(damaged)]
        except apsw.Error as error:
            faults = (*faults, str(error))
    return Integrity(
        ok=not faults and not count,
        faults=tuple(dict.fromkeys(faults)),
        rows=rows,
        damaged=tuple(damaged),
        damaged_rows=count,
        took_ms=round((time.perf_counter() - started) * 1000, 3),
    )


def check_file(
    path: Path,
    connect: Callable[[Path], apsw.Connection],
    checkers: Sequence[Checker],
    *,
    stop: threading.Event | None = None,
    duty: float = 1.0,
) -> Integrity:
    """`check` of a file; one that can't be opened as a database has that fault."""
    try:
        connection = connect(path)
    except apsw.Error as error:
        return Integrity(ok=False, faults=(str(error),))
    try:
        return check(connection, checkers, stop=stop, duty=duty)
    finally:
        connection.close()


def _faults(
    connection: apsw.Connection, stop: threading.Event | None, duty: float
) -> tuple[str, ...]:
    """What SQLite finds wrong: pages, trees, indexes, types, references."""
    worked = time.perf_counter()

    def look() -> bool:
        nonlocal worked
        if stop is not None and stop.is_set():
            return True
        if duty < 1:
            time.sleep((time.perf_counter() - worked) * (1 / duty - 1))
            worked = time.perf_counter()
        return False

    connection.set_progress_handler(look, STEPS)
    try:
        found = [
            str(row[0])
            for row in connection.execute(f"PRAGMA integrity_check({MOST_FAULTS})")
            if row[0] != "ok"
        ]
        found += [
            f"row {row[1]} of {row[0]} refers to a row of {row[2]} that is not there"
            for row in connection.execute("PRAGMA foreign_key_check")
        ]
    except apsw.InterruptError as error:
        raise Stopped from error
    except apsw.Error as error:
        found = [str(error)]
    finally:
        with suppress(apsw.Error):
            connection.set_progress_handler(None)
    return tuple(found[:MOST_FAULTS])


def _paced(batches: Iterator[Batch], stop: threading.Event | None, duty: float) -> Iterator[Batch]:
    worked = time.perf_counter()
    for batch in batches:
        if stop is not None and stop.is_set():
            raise Stopped
        yield batch
        if duty < 1:
            time.sleep((time.perf_counter() - worked) * (1 / duty - 1))
            worked = time.perf_counter()
