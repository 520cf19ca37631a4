-- Purpose: what pg_dump copies just now.
-- Privileges: own sessions
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/monitoring-stats.html
SELECT left(query, 200) AS query
FROM pg_stat_activity
WHERE application_name = %(application_name)s AND datname = current_database() AND state = 'active'
  AND query LIKE 'COPY %%'
LIMIT 1;
