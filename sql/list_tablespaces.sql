-- Purpose: tablespaces other than the default that objects of this database lie in.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-tablespace.html
SELECT DISTINCT t.spcname AS name
FROM pg_tablespace t
WHERE t.oid IN (SELECT c.reltablespace FROM pg_class c WHERE c.reltablespace <> 0)
  AND t.spcname NOT IN ('pg_default', 'pg_global')
   OR t.oid = (SELECT dattablespace FROM pg_database
               WHERE datname = current_database()) AND t.spcname <> 'pg_default'
ORDER BY 1;
