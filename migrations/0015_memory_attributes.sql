-- What memories tell of whom, so that a new statement meets the one that it repeats or contradicts.
-- `about` is a digest of the person and the attribute ("where I live"), `says` one of its value:
-- no words. Both go with their memory. Derived: rows that are missing are read again.

CREATE TABLE memory_attributes (
    about BLOB NOT NULL,
    number INTEGER NOT NULL REFERENCES memory_entries (number) ON DELETE CASCADE,
    says BLOB NOT NULL,
    PRIMARY KEY (about, number)
) STRICT, WITHOUT ROWID;

CREATE INDEX memory_attributes_by_memory ON memory_attributes (number);

-- Made of what somebody said, and not yet compared by meaning with what was known.
CREATE TABLE memory_uncompared (
    number INTEGER PRIMARY KEY REFERENCES memory_entries (number) ON DELETE CASCADE
) STRICT;
