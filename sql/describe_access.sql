-- Purpose: what a role for maint still needs on a server: whether it exists, and where not everybody may connect.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-info.html#FUNCTIONS-ACLITEM-FN-TABLE
SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = %(role)s) AS role_exists,
       pg_is_in_recovery() AS standby,
       ARRAY(SELECT datname::text FROM pg_database
             WHERE datallowconn AND NOT datistemplate
               AND NOT EXISTS (SELECT FROM aclexplode(coalesce(datacl, acldefault('d', datdba)))
                               WHERE grantee = 0 AND privilege_type = 'CONNECT')
             ORDER BY datname) AS private_databases;
