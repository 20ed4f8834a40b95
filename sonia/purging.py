"""Backups that still hold what was forgotten: which, until when, and forgetting it in them.

A backup is written anew without it, under a name of its own, and only then is the old one removed:
whatever stops that half-way leaves a backup, and the next time it is gone on with. Blocking
functions, and `Purging`, which calls them in threads.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw
import msgspec

from sonia import backups, schema
from sonia.backups import Backup, BackupDamaged, Backups
from sonia.db import connect, translate
from sonia.errors import StorageFull
from sonia.forgetting import tombstones
from sonia.integrity import Checker
from sonia.restoring import Mend, check_backup, discard, forgotten, prepare
from sonia.types import HeldIn, Value, now, rfc3339


class Purged(Value):
    """New names of the backups that were written anew, by their old ones; why others were not."""

    rewritten: dict[str, str] = {}
    left: dict[str, str] = {}


def held(
    found: Sequence[Backup], done_at: dt.datetime | None, *, keep: int, every_s: float
) -> tuple[HeldIn, ...]:
    """Which of these, newest first, may hold what was out of every file at `done_at`, or isn't yet.

    Each makes room when so many newer ones have been made by themselves.
    """
    kept = []
    for place, item in enumerate(found):
        if done_at is not None and _known_until(item) > done_at:
            continue
        until = None
        if every_s:
            to_come = max(keep - place, 0) * every_s
            until = _moment(found[0].created_at) + dt.timedelta(seconds=to_come)
        kept.append(HeldIn(name=item.name, until=until))
    return tuple(kept)


def _known_until(item: Backup) -> dt.datetime:
    """What was forgotten before that is not in it."""
    return _moment(item.forgotten_until or item.created_at)


def _moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text)


def purge(
    folder: Path, database: Path, migrations: Path, checkers: Sequence[Checker], clean: Mend
) -> Purged:
    """Forget in every backup of `folder` what was ever forgotten in `database`.

    Each is brought to the present schema on the way. Raises `StorageFull`; those that were
    written anew by then stay so.
    """
    at = now()
    known, _ = forgotten(database)
    done = Purged()
    if not known:
        return done
    for item in backups.listed(folder):
        try:
            check_backup(folder / item.name, migrations, checkers)
            if _knows(folder / item.name, known):
                backups.describe_as(folder, _clean_of(item, at))
                continue
            done.rewritten[item.name] = _rewrite(
                folder, item, at, migrations, checkers, clean, known
            )
        except BackupDamaged as error:
            done.left[item.name] = error.message
    return done


def _knows(path: Path, known: Mapping[bytes, int]) -> bool:
    """Whether all of this was forgotten before the backup was made, or in it."""
    with closing(connect(path, read_only=True)) as connection:
        if "forget_tombstones" not in schema.tables(connection):
            return False
        its = tombstones(connection)
    return all(its.get(hash_, -1) >= at for hash_, at in known.items())


def _clean_of(item: Backup, at: dt.datetime) -> Backup:
    return msgspec.structs.replace(item, forgotten_until=rfc3339(at))


def _rewrite(
    folder: Path,
    item: Backup,
    at: dt.datetime,
    migrations: Path,
    checkers: Sequence[Checker],
    clean: Mend,
    known: Mapping[bytes, int],
) -> str:
    """Put a copy of it that is told what was forgotten in its place; the copy's name."""
    source = folder / item.name
    name = backups.free_name(folder, _moment(item.created_at))
    draft = folder / f"{name}{backups.DRAFT}"
    try:
        backups.check_room(folder, source.stat().st_size)
        try:
            backups.copy(source, draft)
            _, rows, _ = prepare(draft, migrations, clean, known)
            made = backups.describe(draft, name, rows, checkers, _moment(item.created_at))
            backups.publish(folder, draft, _clean_of(made, at))
        finally:
            discard(draft)
        backups.remove(folder, item.name)
    except apsw.Error as error:
        raise translate(error) from error
    except OSError as error:
        raise StorageFull(
            f"{item.name} can't be written anew: {error.strerror}. It is as it was."
        ) from error
    return name


class Purging:
    """Beside a running Sonia. `clean` forgets in a copy what is known to be forgotten."""

    def __init__(
        self,
        kept: Backups,
        database: Path,
        migrations: Path,
        checkers: Sequence[Checker],
        clean: Mend,
        *,
        keep: int,
        every_s: float,
    ) -> None:
        self._backups = kept
        self._purge = partial(purge, kept.folder, database, migrations, checkers, clean)
        self._held = partial(held, keep=keep, every_s=every_s)

    async def held(self, done_at: dt.datetime | None) -> tuple[HeldIn, ...]:
        """Which backups may hold what was out of every file at `done_at`, or isn't yet."""
        return self._held(await self._backups.every(), done_at)

    async def purge(self) -> Purged:
        """See `purge`. Raises `BackupUnderWay`, `StorageFull`."""
        return await self._backups.alone(self._purge)
