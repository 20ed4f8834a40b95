-- Forgetting: what was asked to be forgotten and how far that is, and what a backup is told of
-- it. Moments are microseconds since 1970.

-- `request` is what was asked, as JSON, only until the rows are gone. `erased` counts by place.
CREATE TABLE memory_forgettings (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    what TEXT NOT NULL CHECK (what IN ('memories', 'session', 'person', 'entity')),
    state TEXT NOT NULL CHECK (state IN ('erasing', 'settling', 'done')),
    request TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    erased_at INTEGER,
    done_at INTEGER,
    erased TEXT NOT NULL DEFAULT '{}',
    tombstones INTEGER NOT NULL DEFAULT 0,
    digest TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE INDEX memory_forgettings_open ON memory_forgettings (state) WHERE state <> 'done';

-- SHA-256 of the id of what was forgotten, and when; no word of it.
CREATE TABLE forget_tombstones (
    hash BLOB PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Whoever is forgotten is no longer named by the rows that stay.
DROP TRIGGER memory_events_are_only_erased;

CREATE TRIGGER memory_events_are_only_erased BEFORE UPDATE ON memory_events
WHEN NEW.data IS NOT '{"erased":true}'
    OR NEW.number IS NOT OLD.number
    OR NEW.kind IS NOT OLD.kind
    OR NEW.at IS NOT OLD.at
    OR (NEW.user_id IS NOT OLD.user_id AND NEW.user_id IS NOT 'forgotten')
    OR (NEW.session_id IS NOT OLD.session_id AND NEW.session_id IS NOT NULL)
    OR NEW.turn_id IS NOT OLD.turn_id
    OR NEW.correlation_id IS NOT OLD.correlation_id
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

-- From now on a row's hash covers the SHA-256 of its data, so that the data can be erased and
-- the chain still holds. Null in rows from before, whose hash covers the data itself.
ALTER TABLE control_ledger ADD COLUMN digest TEXT;

DROP TRIGGER control_ledger_keeps;

CREATE TRIGGER control_ledger_keeps BEFORE UPDATE ON control_ledger
WHEN NEW.data IS NOT '{"erased":true}'
    OR NEW.number IS NOT OLD.number
    OR NEW.at IS NOT OLD.at
    OR NEW.kind IS NOT OLD.kind
    OR NEW.correlation_id IS NOT OLD.correlation_id
    OR NEW.previous_hash IS NOT OLD.previous_hash
    OR NEW.hash IS NOT OLD.hash
    OR NEW.digest IS NOT OLD.digest
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

-- What was erased stays so, whatever becomes of the action.
ALTER TABLE tools_actions ADD COLUMN erased INTEGER NOT NULL DEFAULT 0;
