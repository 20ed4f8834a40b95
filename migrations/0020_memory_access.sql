-- How often turns used a memory: `accesses` as of `last_at`, each halved with every half-life since.
-- Moments are microseconds since 1970. No words; rows go with their memory.

CREATE TABLE memory_access (
    number INTEGER PRIMARY KEY REFERENCES memory_entries (number) ON DELETE CASCADE,
    accesses REAL NOT NULL,
    last_at INTEGER NOT NULL
) STRICT;
