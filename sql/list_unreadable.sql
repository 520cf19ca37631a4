-- Purpose: tables and sequences that pg_dump reads and this role may not, or would see filtered by row security.
--          Of an extension's members only those it declares as its configuration are read.
-- Privileges: none
-- Version: 14+
-- Source: getTables, checkExtensionMembership and dumpTableData in src/bin/pg_dump/pg_dump.c. pg_dump locks every
--         table by its name (USAGE on the schema), reads sequences (USAGE on them is not enough), and sets row_security
--         to off, so that a policy is an error; one on a partitioned parent alone is none, its leaves are read.
WITH dumped AS (
    SELECT c.oid, c.relkind, n.oid AS schema_oid, n.nspname, c.relname
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'S')
      AND c.relpersistence <> 't'
      AND n.nspname !~ '^pg_'
      AND n.nspname <> 'information_schema'
      AND NOT EXISTS (SELECT FROM pg_depend d
                      LEFT JOIN pg_extension e ON e.oid = d.refobjid AND c.oid = ANY (e.extconfig)
                      WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
                        AND e.oid IS NULL)
), judged AS (
    SELECT *,
           NOT has_schema_privilege(schema_oid, 'USAGE') AS lacks_usage,
           NOT CASE relkind WHEN 'S' THEN has_sequence_privilege(oid, 'SELECT')
                            ELSE has_table_privilege(oid, 'SELECT') END AS lacks_select,
           relkind = 'r' AND row_security_active(oid) AS filtered
    FROM dumped
)
SELECT relkind = 'S' AS is_sequence,
       nspname AS schema,
       relname AS name,
       quote_ident(nspname) AS schema_quoted,
       quote_ident(relname) AS name_quoted,
       lacks_usage,
       lacks_select,
       filtered
FROM judged
WHERE lacks_usage OR lacks_select OR filtered
ORDER BY nspname, relname;
