-- Purpose: how much each table (with its toast) and index takes, for those of 1 MB and more: to compare it with a
--          fresh copy. As of the last VACUUM or ANALYZE: pg_relation_size waits behind ACCESS EXCLUSIVE.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-class.html
SELECT n.nspname AS schema,
       c.relname AS name,
       (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint AS bytes
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_class t ON t.oid = c.reltoastrelid
WHERE c.relkind IN ('r', 'm', 'i')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND (c.relpages + coalesce(t.relpages, 0))::bigint * current_setting('block_size')::bigint >= 1048576
ORDER BY 1, 2;
