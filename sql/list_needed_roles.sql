-- Purpose: roles that own something in this database or were granted something, which a restore with owners and
--          privileges needs, the database itself and its settings per role included; pg_shdepend knows them all but the
--          bootstrap superuser, who is pinned (oid 10).
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-shdepend.html
WITH this AS (SELECT oid FROM pg_database WHERE datname = current_database())
SELECT r.rolname AS name
FROM pg_shdepend s
JOIN pg_roles r ON r.oid = s.refobjid
WHERE s.refclassid = 'pg_authid'::regclass
  AND (s.dbid = (SELECT oid FROM this)
       OR (s.classid = 'pg_database'::regclass AND s.objid = (SELECT oid FROM this)))
  AND r.rolname !~ '^pg_'
UNION
SELECT r.rolname
FROM pg_db_role_setting s
JOIN pg_roles r ON r.oid = s.setrole
WHERE s.setdatabase = (SELECT oid FROM this)
UNION
SELECT r.rolname
FROM pg_roles r
WHERE r.oid = 10
  AND EXISTS (SELECT FROM (SELECT relnamespace, relowner FROM pg_class
                           UNION ALL SELECT pronamespace, proowner FROM pg_proc
                           UNION ALL SELECT typnamespace, typowner FROM pg_type) o (schema_oid, owner)
              JOIN pg_namespace n ON n.oid = o.schema_oid
              WHERE o.owner = 10 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
ORDER BY 1;
