-- Purpose: privileges on a database, one row a grant; none if they are the default.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-info.html (aclexplode)
SELECT CASE WHEN a.grantee = 0 THEN NULL ELSE pg_get_userbyid(a.grantee) END AS grantee,
       a.privilege_type AS privilege, a.is_grantable AS grantable
FROM pg_database d, aclexplode(d.datacl) a
WHERE d.datname = %(database)s;
