-- A second factor for what is worst, trust given for a while, and how Sonia is set just now.

ALTER TABLE control_approvals ADD COLUMN code TEXT NOT NULL DEFAULT '';
ALTER TABLE control_approvals ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;

-- What a person said would not have to be asked again: this exact call (`scope_hash`), or this
-- tool up to this tier (`scope_hash` NULL), within one session.
CREATE TABLE control_trust (
  id          TEXT PRIMARY KEY,
  approval_id TEXT NOT NULL,
  tool        TEXT NOT NULL,
  scope_hash  TEXT,
  risk_tier   INTEGER NOT NULL CHECK (risk_tier BETWEEN 0 AND 2),
  session_id  TEXT,
  given_by    TEXT NOT NULL,
  created_at  TEXT NOT NULL,
  expires_at  TEXT NOT NULL
) STRICT;

-- `rules_digest` is of the rules file that the policy's version was counted with.
CREATE TABLE control_standing (
  id           INTEGER PRIMARY KEY CHECK (id = 1),
  mode         TEXT NOT NULL,
  rules_digest TEXT NOT NULL
) STRICT;

INSERT INTO control_standing VALUES (1, 'conversation', '');
