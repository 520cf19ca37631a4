-- Purpose: databases and roles on a scratch server that maint has made to verify backups, as far as names tell.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-INFO-COMMENT
SELECT d.datname AS name, shobj_description(d.oid, 'pg_database') AS comment
FROM pg_database d
WHERE starts_with(d.datname, %(prefix)s)
UNION
SELECT r.rolname, NULL
FROM pg_roles r
WHERE starts_with(r.rolname, %(prefix)s)
  AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = r.rolname)
ORDER BY 1;
