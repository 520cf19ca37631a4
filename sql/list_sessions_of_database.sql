-- Purpose: who keeps a database from being renamed, besides this session. Autovacuum gives way by itself; a prepared
--          transaction has no session that could be ended.
-- Privileges: none to see that they exist; pg_read_all_stats to see whose application it is
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/monitoring-stats.html
SELECT pid, coalesce(usename, backend_type) AS role, coalesce(nullif(application_name, ''), 'no name') AS application,
       backend_start AS since
FROM pg_stat_activity
WHERE datname = %(database)s AND pid <> pg_backend_pid()
  AND backend_type NOT IN ('autovacuum worker', 'parallel worker')
UNION ALL
SELECT NULL, owner, 'prepared transaction ' || quote_literal(gid), prepared
FROM pg_prepared_xacts
WHERE database = %(database)s
ORDER BY since;
