-- Purpose: what belongs to a database and not to its contents: owner, limit, comment, privileges; may it be renamed?
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-database.html
SELECT pg_get_userbyid(d.datdba) AS owner, d.datconnlimit AS connection_limit,
       shobj_description(d.oid, 'pg_database') AS comment, d.datacl IS NULL AS default_privileges,
       d.datistemplate AS template, t.spcname AS tablespace, t.spcname = 'pg_default' AS default_tablespace,
       r.rolsuper OR (r.rolcreatedb AND pg_has_role(d.datdba, 'USAGE')) AS may_rename
FROM pg_database d
JOIN pg_tablespace t ON t.oid = d.dattablespace
JOIN pg_roles r ON r.rolname = current_user
WHERE d.datname = %(database)s;
