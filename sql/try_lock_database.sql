-- Purpose: take the exclusion lock of a database, if nobody has it; held until released or the session ends.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS
SELECT pg_try_advisory_lock(%(key)s::bigint) AS locked;
