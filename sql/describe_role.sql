-- Purpose: what this session's role may do.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-roles.html
SELECT r.rolname AS name, r.rolsuper AS superuser, r.rolbypassrls AS bypasses_rls, r.rolreplication AS replication,
       pg_has_role('pg_read_all_data', 'USAGE') AS reads_all_data,
       pg_has_role('pg_monitor', 'USAGE') AS monitors
FROM pg_roles r
WHERE r.rolname = current_user;
