-- Answers of /v1/responses that may be read or gone on from later. `body` is the answer as it was
-- given, `input` the items asked with, `messages` the conversation up to and with the answer.
CREATE TABLE gateway_responses (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    session_id TEXT,
    created_at INTEGER NOT NULL,
    body TEXT NOT NULL,
    input TEXT NOT NULL,
    messages TEXT NOT NULL
) STRICT;

CREATE INDEX gateway_responses_age ON gateway_responses (created_at);
CREATE INDEX gateway_responses_user ON gateway_responses (user_id);
