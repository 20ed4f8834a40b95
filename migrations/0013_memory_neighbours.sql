-- Which memories stand beside one in its session: what was said before and after it.

CREATE INDEX memory_entries_by_session ON memory_entries (session_id, number)
    WHERE session_id IS NOT NULL;
