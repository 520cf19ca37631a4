-- Purpose: how much each table (with its toast) and index of a restored copy takes, exactly.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADMIN-DBOBJECT
SELECT n.nspname AS schema,
       c.relname AS name,
       c.relkind::text AS kind,
       pg_relation_size(c.oid) + CASE WHEN c.reltoastrelid = 0 THEN 0
                                      ELSE pg_relation_size(c.reltoastrelid) END AS bytes
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm', 'i')
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
ORDER BY 1, 2;
