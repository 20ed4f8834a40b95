-- When each of memory's jobs ran and how it went; and turns a model has yet to read.
-- Moments are microseconds since 1970. `outcome` is JSON of counts; neither holds what was said.

CREATE TABLE memory_jobs (
    name TEXT PRIMARY KEY,
    seen_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at INTEGER,
    outcome TEXT NOT NULL DEFAULT '{}',
    failure TEXT,
    failures INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TABLE memory_unextracted (
    turn_id TEXT PRIMARY KEY,
    tries INTEGER NOT NULL DEFAULT 0,
    next_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
