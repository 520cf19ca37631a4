-- Purpose: the tables whose rows pg_dump writes, largest first: leaf partitions singly, no temporary tables, no
--          members of extensions (pg_dump writes of those only what their own filter selects).
-- Privileges: none. Sizes are those of the last VACUUM or ANALYZE: pg_relation_size waits behind ACCESS EXCLUSIVE.
-- Version: 14+
-- Source: selectDumpableTable and getTables in src/bin/pg_dump/pg_dump.c
SELECT c.oid::bigint AS oid, n.nspname AS schema, c.relname AS name
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r'
  AND c.relpersistence <> 't'
  AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY c.relpages DESC, c.oid;
