-- Purpose: the value each sequence has reached, a lower bound for a restored copy (sequences ignore snapshots).
-- Privileges: USAGE or SELECT on the sequence, else last_value is NULL
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-sequences.html
SELECT schemaname AS schema, sequencename AS name, last_value, increment_by AS step
FROM pg_sequences
ORDER BY 1, 2;
