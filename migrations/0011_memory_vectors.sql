-- Vectors may be in two tables: while those of another embedding space are made in the one, the
-- other answers. This says of which version the second has the vector, as vector_version does of
-- the first; 0 is none.

ALTER TABLE memory_entries ADD COLUMN vector_version_2 INTEGER NOT NULL DEFAULT 0;
