-- Purpose: large objects this role may not read; membership in pg_read_all_data does not reach them (14 to 18).
-- Privileges: none
-- Version: 18+ (has_largeobject_privilege)
-- Source: https://www.postgresql.org/docs/18/functions-info.html#FUNCTIONS-INFO-ACCESS
SELECT oid::bigint AS oid
FROM pg_largeobject_metadata
WHERE NOT has_largeobject_privilege(oid, 'SELECT')
ORDER BY 1;
