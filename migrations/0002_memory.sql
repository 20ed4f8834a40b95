-- Memory: the ledger of what happened, the memories worth finding, the sessions.
-- Moments are microseconds since 1970-01-01T00:00:00Z. Vectors and the text index are derived:
-- the vector table is made when the embedder's dimensions are known, the text index is a folder.

CREATE TABLE memory_events (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    at INTEGER NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT,
    turn_id TEXT,
    correlation_id TEXT NOT NULL,
    data TEXT NOT NULL
) STRICT;

CREATE INDEX memory_events_by_session ON memory_events (session_id, number);
CREATE INDEX memory_events_by_kind ON memory_events (kind, number);
CREATE INDEX memory_events_by_turn ON memory_events (turn_id) WHERE turn_id IS NOT NULL;

-- Append-only: rows stay for ever. The one change allowed is to erase a payload, whole.
CREATE TRIGGER memory_events_stay BEFORE DELETE ON memory_events
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER memory_events_are_only_erased BEFORE UPDATE ON memory_events
WHEN NEW.data IS NOT '{"erased":true}'
    OR NEW.number IS NOT OLD.number
    OR NEW.kind IS NOT OLD.kind
    OR NEW.at IS NOT OLD.at
    OR NEW.user_id IS NOT OLD.user_id
    OR NEW.session_id IS NOT OLD.session_id
    OR NEW.turn_id IS NOT OLD.turn_id
    OR NEW.correlation_id IS NOT OLD.correlation_id
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TABLE memory_sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    last_active_at INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    turns INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX memory_sessions_by_activity ON memory_sessions (last_active_at);

-- text_version and vector_version say which version the derived indexes hold; 0 is none.
-- AUTOINCREMENT: a number that was forgotten never names another memory in an index.
CREATE TABLE memory_entries (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT,
    importance REAL NOT NULL,
    origin TEXT NOT NULL,
    valid_from INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    turn_id TEXT,
    likeness BLOB NOT NULL,
    text_version INTEGER NOT NULL DEFAULT 0,
    vector_version INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE INDEX memory_entries_by_type ON memory_entries (type, number);
CREATE INDEX memory_entries_by_likeness ON memory_entries (likeness, user_id);
CREATE INDEX memory_entries_narrow ON memory_entries (user_id, session_id, type, valid_from);
CREATE INDEX memory_entries_untexted ON memory_entries (number) WHERE text_version < version;
CREATE INDEX memory_entries_unembedded ON memory_entries (number) WHERE vector_version < version;

-- What a memory said before it was changed.
CREATE TABLE memory_versions (
    number INTEGER NOT NULL REFERENCES memory_entries (number) ON DELETE CASCADE,
    version INTEGER NOT NULL,
    content TEXT NOT NULL,
    metadata TEXT NOT NULL,
    importance REAL NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (number, version)
) STRICT, WITHOUT ROWID;

-- Numbers forgotten whose words may still be in the text index's files.
CREATE TABLE memory_erased (number INTEGER PRIMARY KEY) STRICT;

-- Which text index (a folder's name) and which embedding space the derived indexes are.
CREATE TABLE memory_derived (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
