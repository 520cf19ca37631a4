-- Purpose: roles that own something in this database or were granted something, which a restore with owners and
--          privileges needs; pg_shdepend knows them all.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-shdepend.html
SELECT DISTINCT r.rolname AS name
FROM pg_shdepend s
JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_authid'::regclass
  AND s.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND r.rolname !~ '^pg_'
ORDER BY 1;
