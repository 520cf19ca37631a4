-- Purpose: the databases of a server, with what decides whether a backup can take them.
-- Privileges: none (pg_database_size needs CONNECT on the database or pg_read_all_stats: NULL without).
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-database.html
SELECT datname AS name,
       quote_ident(datname) AS name_quoted,
       datistemplate AS template,
       datallowconn AS allows_connections,
       datconnlimit AS connection_limit,
       has_database_privilege(datname, 'CONNECT') AS may_connect,
       CASE WHEN has_database_privilege(datname, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')
            THEN pg_database_size(oid) END AS size_bytes
FROM pg_database
ORDER BY datname;
