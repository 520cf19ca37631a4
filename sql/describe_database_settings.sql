-- Purpose: what belongs to a database and not to its contents: owner, limit, comment, privileges.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-database.html
SELECT d.oid::bigint AS oid, pg_get_userbyid(d.datdba) AS owner, d.datconnlimit AS connection_limit,
       shobj_description(d.oid, 'pg_database') AS comment,
       pg_database_size(d.oid) AS size_bytes, d.datistemplate AS template
FROM pg_database d
WHERE d.datname = %(database)s;
