-- When a memory was true, what took its place, where it came from; a digest of every row.
-- `digest` is the SHA-256 of the row's other columns: null in rows from before, which are not
-- checked until they change. `source` is JSON. Moments are microseconds since 1970.

ALTER TABLE memory_entries ADD COLUMN valid_to INTEGER;
ALTER TABLE memory_entries ADD COLUMN superseded_by TEXT;
ALTER TABLE memory_entries ADD COLUMN archived_at INTEGER;
ALTER TABLE memory_entries ADD COLUMN pinned INTEGER NOT NULL DEFAULT 0;
ALTER TABLE memory_entries ADD COLUMN source TEXT NOT NULL DEFAULT '{}';
ALTER TABLE memory_entries ADD COLUMN digest BLOB;

ALTER TABLE memory_versions ADD COLUMN valid_from INTEGER;
ALTER TABLE memory_versions ADD COLUMN valid_to INTEGER;
ALTER TABLE memory_versions ADD COLUMN superseded_by TEXT;
ALTER TABLE memory_versions ADD COLUMN digest BLOB;

-- Until now a change could not move the time of what it changed.
UPDATE memory_versions SET valid_from = (
    SELECT valid_from FROM memory_entries WHERE memory_entries.number = memory_versions.number
);

-- Older memories were made of what people said, in these turns.
UPDATE memory_entries SET source = json_object('turn_id', turn_id) WHERE turn_id IS NOT NULL;
