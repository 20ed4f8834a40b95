-- A SHA-256 of every row of the ledger too, and a list of the rows that are not what was written.
-- Null is "not computed yet": what was written before this gets its digest behind the next start,
-- and what was erased gets a new one.

ALTER TABLE memory_events ADD COLUMN digest BLOB;

CREATE INDEX memory_events_undigested ON memory_events (number) WHERE digest IS NULL;
CREATE INDEX memory_entries_undigested ON memory_entries (number) WHERE digest IS NULL;
CREATE INDEX memory_versions_undigested ON memory_versions (number, version) WHERE digest IS NULL;

-- `place` is a table. A row leaves the list when it is erased, or found to be right again.
CREATE TABLE memory_damaged (
    place TEXT NOT NULL,
    number INTEGER NOT NULL,
    version INTEGER NOT NULL DEFAULT 0,
    why TEXT NOT NULL,
    found_at INTEGER NOT NULL,
    PRIMARY KEY (place, number, version)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER memory_damaged_entries_go AFTER DELETE ON memory_entries
BEGIN
    DELETE FROM memory_damaged
    WHERE place IN ('memory_entries', 'memory_versions') AND number = OLD.number;
END;

-- Still append-only: a payload may be erased whole (and whoever is forgotten is no longer named),
-- and a digest may be added where there is none.
DROP TRIGGER memory_events_are_only_erased;

CREATE TRIGGER memory_events_are_only_erased BEFORE UPDATE ON memory_events
WHEN NEW.number IS NOT OLD.number
    OR NEW.kind IS NOT OLD.kind
    OR NEW.at IS NOT OLD.at
    OR NEW.turn_id IS NOT OLD.turn_id
    OR NEW.correlation_id IS NOT OLD.correlation_id
    OR (
        NEW.data IS NOT '{"erased":true}' AND (
            NEW.data IS NOT OLD.data
            OR NEW.user_id IS NOT OLD.user_id
            OR NEW.session_id IS NOT OLD.session_id
            OR OLD.digest IS NOT NULL
        )
    )
    OR (NEW.user_id IS NOT OLD.user_id AND NEW.user_id IS NOT 'forgotten')
    OR (NEW.session_id IS NOT OLD.session_id AND NEW.session_id IS NOT NULL)
BEGIN
    SELECT RAISE(ABORT, 'the ledger is append-only');
END;

CREATE TRIGGER memory_events_erased_are_undigested AFTER UPDATE OF data ON memory_events
BEGIN
    UPDATE memory_events SET digest = NULL WHERE number = NEW.number;
    DELETE FROM memory_damaged WHERE place = 'memory_events' AND number = NEW.number;
END;
