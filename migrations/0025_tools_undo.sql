-- What it takes to undo what a tool did, and an ending for actions that were undone.

-- `kept` is JSON of facts, `before` what a file held before it was changed.
CREATE TABLE tools_undo (
    action_id TEXT PRIMARY KEY,
    tool TEXT NOT NULL,
    created_at TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('possible', 'undoing', 'undone')),
    kept TEXT NOT NULL,
    before BLOB
) STRICT;

CREATE TABLE tools_actions_again (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tool TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status IN (
            'running', 'executed', 'approval_required', 'denied', 'failed', 'timeout', 'undone'
        )
    ),
    created_at TEXT NOT NULL,
    session_id TEXT,
    approval_id TEXT,
    idempotency_key TEXT UNIQUE,
    call_hash TEXT,
    outcome TEXT,
    erased INTEGER NOT NULL DEFAULT 0,
    CHECK ((idempotency_key IS NULL) OR (call_hash IS NOT NULL))
) STRICT;

INSERT INTO tools_actions_again (
    number, id, tool, status, created_at, session_id, approval_id, idempotency_key, call_hash,
    outcome, erased
)
SELECT
    number, id, tool, status, created_at, session_id, approval_id, idempotency_key, call_hash,
    outcome, erased
FROM tools_actions;

DROP TABLE tools_actions;

ALTER TABLE tools_actions_again RENAME TO tools_actions;

CREATE INDEX tools_actions_unsettled ON tools_actions (status)
WHERE status IN ('running', 'approval_required');
