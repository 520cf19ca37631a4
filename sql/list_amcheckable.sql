-- Purpose: the B-tree indexes and tables that amcheck can look at.
-- Privileges: none; the check itself needs EXECUTE on the functions of the extension amcheck
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/amcheck.html
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_am a ON a.oid = c.relam
LEFT JOIN pg_index i ON i.indexrelid = c.oid
WHERE (c.relkind = 'i' AND a.amname = 'btree' AND i.indisvalid AND i.indisready
       OR c.relkind IN ('r', 'm') AND a.amname = 'heap')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
ORDER BY c.relkind, 2, 3;
