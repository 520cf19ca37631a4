-- Purpose: who is connected to a database, besides this session.
-- Privileges: pg_read_all_stats to see what others' sessions do; that they exist is visible to all
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/monitoring-stats.html
SELECT pid, coalesce(usename, backend_type) AS role, coalesce(nullif(application_name, ''), 'no name') AS application,
       backend_start AS since
FROM pg_stat_activity
WHERE datname = %(database)s AND pid <> pg_backend_pid()
ORDER BY backend_start;
