-- Purpose: what the shop of maint demo holds, for telling.
-- Privileges: SELECT on all its tables
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-class.html
SELECT count(*) FILTER (WHERE c.relkind = 'r') AS tables,
       count(DISTINCT c.relnamespace) AS schemas,
       sum(c.reltuples) FILTER (WHERE c.relkind = 'r')::bigint AS rows,
       pg_database_size(current_database()) AS size_bytes
FROM pg_class AS c
WHERE c.relkind IN ('r', 'm')
  AND c.relnamespace IN ('catalog'::regnamespace, 'sales'::regnamespace, 'web'::regnamespace);
