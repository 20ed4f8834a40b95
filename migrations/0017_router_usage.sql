-- What calls of models took, summed: the day is UTC, `model` a full id. `unpriced_calls` are those
-- whose cost nobody knows; they are in no sum of money.
CREATE TABLE router_usage (
  day               TEXT NOT NULL,
  model             TEXT NOT NULL,
  user_id           TEXT NOT NULL,
  calls             INTEGER NOT NULL,
  prompt_tokens     INTEGER NOT NULL,
  completion_tokens INTEGER NOT NULL,
  cached_tokens     INTEGER NOT NULL,
  cost_usd          REAL NOT NULL,
  unpriced_calls    INTEGER NOT NULL,
  PRIMARY KEY (day, model, user_id)
) STRICT, WITHOUT ROWID;

-- What may be gone of each budget: spent, and held for calls that are under way or to come soon.
-- It is written before it is used, so a crash can only have spent less. `granted_*` is what a
-- person allowed beyond the limit.
CREATE TABLE router_budgets (
  scope          TEXT NOT NULL CHECK (scope IN ('day', 'user', 'session')),
  key            TEXT NOT NULL,
  day            TEXT NOT NULL,
  held_tokens    INTEGER NOT NULL,
  held_usd       REAL NOT NULL,
  granted_tokens INTEGER NOT NULL DEFAULT 0,
  granted_usd    REAL NOT NULL DEFAULT 0,
  PRIMARY KEY (scope, key, day)
) STRICT, WITHOUT ROWID;
