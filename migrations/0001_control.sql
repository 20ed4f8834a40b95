-- What Sonia was asked to do, what a person answered, the rules, and the ledger of all of it.
-- Times are RFC 3339 UTC with microseconds and a fixed width, so they compare as text.

CREATE TABLE control_approvals (
  number        INTEGER PRIMARY KEY AUTOINCREMENT,
  id            TEXT NOT NULL UNIQUE,
  state         TEXT NOT NULL CHECK (
    state IN ('pending', 'approved', 'denied', 'expired', 'cancelled', 'consumed')
  ),
  tool          TEXT NOT NULL,
  arguments     TEXT NOT NULL,
  preview       TEXT NOT NULL,
  risk_tier     INTEGER NOT NULL CHECK (risk_tier BETWEEN 0 AND 3),
  scope_hash    TEXT NOT NULL,
  reason        TEXT NOT NULL,
  created_at    TEXT NOT NULL,
  expires_at    TEXT NOT NULL,
  session_id    TEXT,
  answered_by   TEXT,
  answer_reason TEXT
) STRICT;

CREATE INDEX control_approvals_open ON control_approvals (state, scope_hash)
  WHERE state IN ('pending', 'approved');

CREATE TABLE control_policy (
  id      INTEGER PRIMARY KEY CHECK (id = 1),
  version INTEGER NOT NULL,
  rules   TEXT NOT NULL
) STRICT;

INSERT INTO control_policy VALUES (1, 1, '[]');

CREATE TABLE control_ledger (
  number         INTEGER PRIMARY KEY,
  at             TEXT NOT NULL,
  kind           TEXT NOT NULL,
  correlation_id TEXT NOT NULL,
  data           TEXT NOT NULL,
  previous_hash  TEXT NOT NULL,
  hash           TEXT NOT NULL
) STRICT;

-- Where the chain ends, kept apart from it: without this a missing tail would look whole.
CREATE TABLE control_ledger_head (
  id     INTEGER PRIMARY KEY CHECK (id = 1),
  number INTEGER NOT NULL,
  hash   TEXT NOT NULL
) STRICT;

INSERT INTO control_ledger_head VALUES (1, 0, '');

-- Against accidents; what is done on purpose, the chain tells.
CREATE TRIGGER control_ledger_keeps BEFORE UPDATE ON control_ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TRIGGER control_ledger_stays BEFORE DELETE ON control_ledger
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
