-- Purpose: password hashes that pg_dumpall --globals-only writes; one of md5 is as good as the password itself.
-- Privileges: superuser
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-authid.html
SELECT count(*) AS hashes, count(*) FILTER (WHERE starts_with(rolpassword, 'md5')) AS md5
FROM pg_authid
WHERE rolpassword IS NOT NULL;
