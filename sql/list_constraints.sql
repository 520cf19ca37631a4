-- Purpose: every constraint of a restored database, of tables and of domains, by what it belongs to.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-constraint.html
SELECT n.nspname AS schema,
       coalesce(c.relname, t.typname) AS owner,
       o.conname AS name
FROM pg_constraint o
JOIN pg_namespace n ON n.oid = o.connamespace
LEFT JOIN pg_class c ON c.oid = o.conrelid
LEFT JOIN pg_type t ON t.oid = o.contypid
WHERE n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
ORDER BY 1, 2, 3;
