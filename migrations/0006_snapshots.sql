-- Snapshots of sessions: copies of what was said and remembered in one. Moments are
-- microseconds since 1970; `digest` is the SHA-256 of an item's other columns but its place.

CREATE TABLE memory_snapshots (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    session_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE INDEX memory_snapshots_by_session ON memory_snapshots (session_id);

-- `ref` is the turn or the memory that it is a copy of.
CREATE TABLE memory_snapshot_items (
    snapshot INTEGER NOT NULL REFERENCES memory_snapshots (number) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('turn.user', 'turn.assistant', 'memory')),
    ref TEXT NOT NULL,
    data TEXT NOT NULL,
    digest BLOB NOT NULL,
    PRIMARY KEY (snapshot, position)
) STRICT, WITHOUT ROWID;
