-- Purpose: every index of a restored database, and whether it can be used.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-index.html
SELECT n.nspname AS schema,
       c.relname AS name,
       c.relkind = 'I' AS partitioned,
       i.indisvalid AND i.indisready AS valid
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
ORDER BY 1, 2;
