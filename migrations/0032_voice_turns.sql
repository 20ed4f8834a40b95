-- What was said in spoken sessions, what of the answer was heard, and how long what took.
-- `at` is microseconds since 1970, `start_ms` and `end_ms` count from the session's first sound.
CREATE TABLE voice_turns (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    session_id TEXT NOT NULL,
    turn_id TEXT,
    user_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    text TEXT NOT NULL,
    heard TEXT NOT NULL,
    complete INTEGER NOT NULL,
    start_ms INTEGER NOT NULL,
    end_ms INTEGER NOT NULL,
    metrics TEXT NOT NULL
) STRICT;

CREATE INDEX voice_turns_session ON voice_turns (session_id, number);
CREATE INDEX voice_turns_user ON voice_turns (user_id);
