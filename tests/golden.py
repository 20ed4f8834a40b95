"""Databases as every earlier schema left them, made of the migrations up to it, with data."""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw

from sonia import schema
from sonia.db import connect
from sonia.memory.columns import likeness
from tests.memory_given import MIGRATIONS

LEVELS = [path.name for path in sorted(MIGRATIONS.glob("*.sql"))]
AT = 1_760_000_000_000_000
# What is derived, or notes of the indexes: made anew when it is lost.
DERIVED = {"memory_derived", "memory_erased", "schema_migrations", "sqlite_sequence"}
DERIVED_COLUMNS = {"text_version", "vector_version", "digest", "likeness"}
Rows = dict[str, list[dict[str, Any]]]


def until(level: str, folder: Path) -> Path:
    """A folder with the migrations up to `level`."""
    folder.mkdir(parents=True)
    for name in LEVELS[: LEVELS.index(level) + 1]:
        shutil.copy(MIGRATIONS / name, folder)
    return folder


def make(level: str, path: Path, folder: Path) -> Rows:
    """The database of a Sonia whose newest migration was `level`; return its rows by table."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.touch(mode=0o600)
    with closing(connect(path)) as c:
        schema.migrate(c, path, until(level, folder), copy=False)
        with c:
            _control(c)
            if level >= "0002":
                _memory(c)
            if level >= "0003":
                _tools(c)
            if level >= "0004":
                _truth(c)
        return rows(c)


def rows(c: apsw.Connection, like: Rows | None = None) -> Rows:
    """All rows that are not derived, by table; of the tables and columns of `like`, if given."""
    found: Rows = {}
    for table in sorted(schema.tables(c) if like is None else like):
        if table in DERIVED or table.startswith("memory_vectors"):
            continue
        columns = sorted(schema.columns(c, table) - DERIVED_COLUMNS)
        if like is not None and like[table]:
            columns = sorted(like[table][0])
        listed = ", ".join(columns)
        found[table] = [
            dict(zip(columns, row, strict=True))
            for row in c.execute(f"SELECT {listed} FROM {table} ORDER BY {listed}")  # noqa: S608
        ]
    return found


def contents(number: int) -> str:
    """What memory `number` says."""
    return f"Heron {number} stands in pond {number}."


def _control(c: apsw.Connection) -> None:
    c.execute(
        "INSERT INTO control_approvals (id, state, tool, arguments, preview, risk_tier, "
        "scope_hash, reason, created_at, expires_at) VALUES ('apr_1', 'consumed', 'file.write', "
        "'{}', 'write', 2, 'hash', 'asked', '2025-01-01T00:00:00.000000Z', "
        "'2025-01-01T00:05:00.000000Z')"
    )
    row = (1, "2025-01-01T00:00:00.000000Z", "approval.consumed", "req_1", '{"id":"apr_1"}', "")
    hash_ = hashlib.sha256(json.dumps(row, separators=(",", ":")).encode()).hexdigest()
    c.execute(
        "INSERT INTO control_ledger (number, at, kind, correlation_id, data, previous_hash, hash) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (*row, hash_),
    )
    c.execute("UPDATE control_ledger_head SET number = 1, hash = ?", (hash_,))


def _memory(c: apsw.Connection) -> None:
    c.execute("INSERT INTO memory_sessions VALUES ('ses_1', 'owner', ?, ?, '{}', 2)", (AT, AT + 9))
    for number in range(1, 21):
        c.execute(
            "INSERT INTO memory_entries (id, type, content, metadata, user_id, session_id, "
            "importance, origin, valid_from, recorded_at, version, turn_id, likeness) "
            "VALUES (?, 'fact', ?, '{\"n\":1}', 'owner', 'ses_1', 0.5, 'owner', ?, ?, ?, ?, ?)",
            (
                f"mem_{number}",
                contents(number),
                AT + number,
                AT + number,
                2 if number == 1 else 1,
                f"turn_{number}" if number % 2 else None,
                likeness(contents(number)),
            ),
        )
        said = {"role": "user", "content": contents(number), "tainted": False}
        c.execute(
            "INSERT INTO memory_events (kind, at, user_id, session_id, turn_id, correlation_id, "
            "data) VALUES ('turn.user', ?, 'owner', 'ses_1', ?, 'req_1', ?)",
            (AT + number, f"turn_{number}", json.dumps(said, separators=(",", ":"))),
        )
    c.execute(
        "INSERT INTO memory_versions (number, version, content, metadata, importance, "
        "recorded_at) VALUES (1, 1, 'Heron 1 stood in pond 9.', '{}', 0.4, ?)",
        (AT,),
    )


def _tools(c: apsw.Connection) -> None:
    c.execute(
        "INSERT INTO tools_actions (id, tool, status, created_at, outcome) "
        "VALUES ('act_1', 'file.list', 'executed', '2025-01-01T00:00:00.000000Z', '{}')"
    )


def _truth(c: apsw.Connection) -> None:
    c.execute("UPDATE memory_versions SET valid_from = ?", (AT,))
    c.execute(
        "UPDATE memory_entries SET valid_to = ?, superseded_by = 'mem_3' WHERE id = 'mem_2'",
        (AT + 1_000,),
    )
