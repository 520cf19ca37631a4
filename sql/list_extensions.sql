-- Purpose: extensions a restore needs, with their versions.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-extension.html
SELECT extname AS name, extversion AS version FROM pg_extension ORDER BY extname;
