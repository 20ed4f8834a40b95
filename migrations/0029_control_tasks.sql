-- Work for later: what, when, and how each run of it ended. Times are RFC 3339 UTC with
-- microseconds and a fixed width, so they compare as text. `next_at` is NULL once it is over.
CREATE TABLE control_tasks (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  kind       TEXT NOT NULL CHECK (kind IN ('turn', 'reminder')),
  text       TEXT NOT NULL,
  schedule   TEXT NOT NULL,
  user_id    TEXT NOT NULL,
  session_id TEXT,
  created_at TEXT NOT NULL,
  next_at    TEXT
) STRICT;

CREATE INDEX control_tasks_due ON control_tasks (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE control_task_runs (
  number     INTEGER PRIMARY KEY AUTOINCREMENT,
  id         TEXT NOT NULL UNIQUE,
  task_id    TEXT NOT NULL,
  started_at TEXT NOT NULL,
  ended_at   TEXT,
  status     TEXT NOT NULL CHECK (status IN ('running', 'waiting', 'done', 'failed')),
  response   TEXT NOT NULL,
  error      TEXT,
  session_id TEXT,
  approvals  TEXT NOT NULL
) STRICT;

CREATE INDEX control_task_runs_of ON control_task_runs (task_id, number);
