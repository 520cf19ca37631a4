-- Purpose: how many tables (leaf partitions singly, and their parents) and sequences pg_dump reads: see list_unreadable.
-- Privileges: none
-- Version: 14+
-- Source: getTables and checkExtensionMembership in src/bin/pg_dump/pg_dump.c
SELECT count(*) FILTER (WHERE c.relkind <> 'S') AS tables,
       count(*) FILTER (WHERE c.relkind = 'S') AS sequences,
       (SELECT count(*) FROM pg_largeobject_metadata) AS large_objects
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'S')
  AND c.relpersistence <> 't'
  AND n.nspname !~ '^pg_'
  AND n.nspname <> 'information_schema'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  LEFT JOIN pg_extension e ON e.oid = d.refobjid AND c.oid = ANY (e.extconfig)
                  WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                    AND e.oid IS NULL);
