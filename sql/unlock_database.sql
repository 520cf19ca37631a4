-- Purpose: release the exclusion lock of a database.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS
SELECT pg_advisory_unlock(%(key)s::bigint) AS unlocked;
