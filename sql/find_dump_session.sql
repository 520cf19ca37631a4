-- Purpose: the session of pg_dump once it holds ACCESS SHARE on all the tables it will dump, and its transaction.
-- Privileges: pg_stat_activity shows application_name of own sessions
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-locks.html
SELECT a.pid, min(l.virtualtransaction) AS transaction
FROM pg_stat_activity a
LEFT JOIN pg_locks l ON l.pid = a.pid AND l.locktype = 'relation' AND l.granted
      AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND l.relation = ANY (%(oids)s::oid[])
WHERE a.application_name = %(application_name)s
  AND a.datname = current_database()
GROUP BY a.pid, a.backend_start
HAVING count(DISTINCT l.relation) = cardinality(%(oids)s::oid[])
ORDER BY a.backend_start
LIMIT 1;
