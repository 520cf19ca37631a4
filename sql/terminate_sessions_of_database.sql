-- Purpose: end every session of a database; only when the operator has asked for it (restore --replace --disconnect).
-- Privileges: pg_signal_backend, or superuser for sessions of superusers
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-admin.html
SELECT pid, pg_terminate_backend(pid) AS ended
FROM pg_stat_activity
WHERE datname = %(database)s AND pid <> pg_backend_pid()
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker');
