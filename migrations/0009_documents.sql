-- Documents: files that were read. Their chunks are memories of the type `document`.
-- `state` is reading, writing, ready, superseded or erasing; while `hidden`, chunks come or go
-- and none of them is found, so that a document is there whole or not at all.
-- Moments are microseconds since 1970.

CREATE TABLE memory_documents (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    state TEXT NOT NULL,
    hidden INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    bytes INTEGER NOT NULL,
    title TEXT NOT NULL,
    name TEXT NOT NULL,
    source TEXT,
    media_type TEXT NOT NULL,
    user_id TEXT NOT NULL,
    session_id TEXT,
    origin TEXT NOT NULL,
    recorded_at INTEGER NOT NULL,
    chunks INTEGER NOT NULL DEFAULT 0,
    chars INTEGER NOT NULL DEFAULT 0,
    pages INTEGER,
    encoding TEXT,
    superseded_by TEXT,
    superseded_at INTEGER
) STRICT;

CREATE INDEX memory_documents_by_content ON memory_documents (user_id, sha256);
CREATE INDEX memory_documents_by_source ON memory_documents (user_id, source);
CREATE INDEX memory_documents_hidden ON memory_documents (id) WHERE hidden;

ALTER TABLE memory_entries ADD COLUMN document TEXT GENERATED ALWAYS AS (
    CASE WHEN json_valid(source) THEN source ->> '$.document_id' END
) VIRTUAL;

CREATE INDEX memory_entries_by_document ON memory_entries (document, number)
WHERE document IS NOT NULL;
