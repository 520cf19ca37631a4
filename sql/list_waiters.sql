-- Purpose: sessions that have waited long for a lock and are blocked, directly or not, by sessions named so.
--          pg_blocking_pids takes the lock manager exclusively: it is asked for waiting sessions only.
-- Privileges: pg_read_all_stats to see others' statements
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-info.html
WITH waiting AS (
    SELECT pid, usename, application_name, left(query, 200) AS query,
           extract(epoch FROM clock_timestamp() - query_start)::float AS seconds
    FROM pg_stat_activity
    WHERE wait_event_type = 'Lock' AND datname = current_database()
      AND query_start < clock_timestamp() - make_interval(secs => %(longer_than)s)
)
SELECT w.pid, w.usename AS role, w.application_name, w.query, w.seconds
FROM waiting w
WHERE pg_blocking_pids(w.pid) && (SELECT array_agg(pid) FROM pg_stat_activity
                                  WHERE application_name = %(application_name)s)
ORDER BY w.seconds DESC;
