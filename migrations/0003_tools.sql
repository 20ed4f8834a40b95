-- What was asked of the tools and what became of it, newest last. `outcome` is the whole answer
-- as JSON, secrets taken out; the other columns are there to find it.
CREATE TABLE tools_actions (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tool TEXT NOT NULL,
    status TEXT NOT NULL CHECK (
        status IN ('running', 'executed', 'approval_required', 'denied', 'failed', 'timeout')
    ),
    created_at TEXT NOT NULL,
    session_id TEXT,
    approval_id TEXT,
    idempotency_key TEXT UNIQUE,
    call_hash TEXT,
    outcome TEXT,
    CHECK ((idempotency_key IS NULL) OR (call_hash IS NOT NULL))
) STRICT;

CREATE INDEX tools_actions_unsettled ON tools_actions (status)
WHERE status IN ('running', 'approval_required');
