"""A memory as a row, and back. A row whose digest does not fit is nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import apsw
import msgspec

from sonia.memory.columns import (
    digest,
    from_json,
    maybe_micros,
    maybe_moment,
    micros,
    moment,
    to_json,
)
from sonia.memory.interface import Entry, Source
from sonia.types import MemoryId, Origin

ENTRY_COLUMNS = (
    "id, type, content, metadata, user_id, session_id, importance, origin, valid_from, valid_to, "
    "recorded_at, version, superseded_by, archived_at, pinned, source"
)
ENTRY_MARKS = ", ".join("?" * len(ENTRY_COLUMNS.split(",")))
VERSION_COLUMNS = (
    "number, version, content, metadata, importance, valid_from, valid_to, recorded_at, "
    "superseded_by"
)
VERSION_MARKS = ", ".join("?" * len(VERSION_COLUMNS.split(",")))
EVENT_COLUMNS = "kind, at, user_id, session_id, turn_id, correlation_id, data"

NOT_WRITTEN = "its SHA-256 is not that of what was written"
NOT_READ = "it can't be read"

_source = msgspec.json.Decoder(Source)
_no_source = Source()


def stored(c: apsw.Connection, sql: str, key: Sequence[Any]) -> Sequence[Any] | None:
    """The one row that `sql` asks for; nothing when SQLite can't give it."""
    try:
        return cast("Sequence[Any] | None", c.execute(sql, tuple(key)).fetchone())
    except (UnicodeDecodeError, apsw.CorruptError):
        return None


def of_entry(entry: Entry) -> tuple[Any, ...]:
    """In the order of `ENTRY_COLUMNS`."""
    return (
        entry.id,
        entry.type,
        entry.content,
        to_json(entry.metadata),
        entry.user_id,
        entry.session_id,
        entry.importance,
        entry.origin,
        micros(entry.valid_from),
        maybe_micros(entry.valid_to),
        micros(entry.recorded_at),
        entry.version,
        entry.superseded_by,
        maybe_micros(entry.archived_at),
        int(entry.pinned),
        source_text(entry.source),
    )


def source_text(source: Source) -> str:
    """JSON of what is known of it."""
    if source == _no_source:
        return "{}"
    given = {
        name: value
        for name, value in msgspec.structs.asdict(source).items()
        if value != getattr(_no_source, name)
    }
    return to_json(given)


def entry_of(row: Sequence[Any], expected: bytes | None) -> Entry | None:
    """The inverse of `of_entry`. Rows from before there were digests have none."""
    if expected is not None and digest(row) != expected:
        return None
    try:
        return Entry(
            id=MemoryId(row[0]),
            type=row[1],
            content=row[2],
            metadata=from_json(row[3]),
            user_id=row[4],
            session_id=row[5],
            importance=row[6],
            origin=cast(Origin, row[7]),
            valid_from=moment(row[8]),
            valid_to=maybe_moment(row[9]),
            recorded_at=moment(row[10]),
            version=row[11],
            superseded_by=row[12],
            archived_at=maybe_moment(row[13]),
            pinned=bool(row[14]),
            source=_source.decode(row[15]) if row[15] != "{}" else _no_source,
        )
    except (msgspec.MsgspecError, OverflowError, TypeError):
        return None


def of_version(number: int, entry: Entry) -> tuple[Any, ...]:
    """In the order of `VERSION_COLUMNS`: what a change can change."""
    return (
        number,
        entry.version,
        entry.content,
        to_json(entry.metadata),
        entry.importance,
        micros(entry.valid_from),
        maybe_micros(entry.valid_to),
        micros(entry.recorded_at),
        entry.superseded_by,
    )


def version_of(row: Sequence[Any], expected: bytes | None, current: Entry) -> Entry | None:
    """What `current` was in that version; nothing if its digest does not fit."""
    if expected is not None and digest(row) != expected:
        return None
    try:
        return msgspec.structs.replace(
            current,
            version=row[1],
            content=row[2],
            metadata=from_json(row[3]),
            importance=row[4],
            valid_from=moment(row[5]),
            valid_to=maybe_moment(row[6]),
            recorded_at=moment(row[7]),
            superseded_by=row[8],
        )
    except (msgspec.MsgspecError, OverflowError, TypeError):
        return None
