-- A document is forgotten by the same operation as all else, with a receipt.

CREATE TABLE memory_forgettings_of_all (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    what TEXT NOT NULL
        CHECK (what IN ('memories', 'document', 'session', 'person', 'entity')),
    state TEXT NOT NULL CHECK (state IN ('erasing', 'settling', 'done')),
    request TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    erased_at INTEGER,
    done_at INTEGER,
    erased TEXT NOT NULL DEFAULT '{}',
    tombstones INTEGER NOT NULL DEFAULT 0,
    digest TEXT NOT NULL DEFAULT ''
) STRICT;

INSERT INTO memory_forgettings_of_all
SELECT number, id, what, state, request, requested_at, erased_at, done_at, erased, tombstones,
    digest
FROM memory_forgettings;

DROP TABLE memory_forgettings;

ALTER TABLE memory_forgettings_of_all RENAME TO memory_forgettings;

CREATE INDEX memory_forgettings_open ON memory_forgettings (state) WHERE state <> 'done';
