-- Purpose: who holds the exclusion lock of a database. A 64-bit key is shown as two halves with objsubid 1.
-- Privileges: none (application_name of others' sessions is visible to all)
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-locks.html
SELECT a.pid, coalesce(nullif(a.application_name, ''), 'a session without a name') AS application_name,
       coalesce(host(a.client_addr), 'this host') AS client
FROM pg_locks l
JOIN pg_stat_activity a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (l.classid::bigint << 32 | l.objid::bigint) = %(key)s::bigint;
