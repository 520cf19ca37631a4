-- Purpose: large objects this role may not read; membership in pg_read_all_data does not reach them (14 to 18).
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/14/lo-funcs.html, parameter lo_compat_privileges
SELECT m.oid::bigint AS oid
FROM pg_largeobject_metadata m
WHERE NOT current_setting('lo_compat_privileges')::boolean
  AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
  AND NOT EXISTS (SELECT FROM aclexplode(coalesce(m.lomacl, acldefault('L', m.lomowner))) a
                  WHERE a.privilege_type = 'SELECT'
                    AND (a.grantee = 0 OR pg_has_role(a.grantee, 'USAGE')))
ORDER BY 1;
