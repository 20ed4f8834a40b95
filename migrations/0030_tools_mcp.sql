-- The definitions of other servers' tools as they were accepted, by SHA-256.
CREATE TABLE tools_mcp_pins (
  server      TEXT NOT NULL,
  tool        TEXT NOT NULL,
  digest      TEXT NOT NULL,
  accepted_at TEXT NOT NULL,
  PRIMARY KEY (server, tool)
) STRICT;
