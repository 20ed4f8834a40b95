-- Effects that failed, or were in the middle when Sonia stopped: what it takes to try again.
CREATE TABLE tools_dead_letters (
  number      INTEGER PRIMARY KEY AUTOINCREMENT,
  id          TEXT NOT NULL UNIQUE,
  action_id   TEXT NOT NULL UNIQUE,
  tool        TEXT NOT NULL,
  arguments   TEXT NOT NULL,
  whole       INTEGER NOT NULL CHECK (whole IN (0, 1)),
  origins     TEXT NOT NULL,
  session_id  TEXT,
  at          TEXT NOT NULL,
  state       TEXT NOT NULL CHECK (state IN ('running', 'open', 'replayed', 'dismissed')),
  error       TEXT NOT NULL,
  replayed_as TEXT
) STRICT;
