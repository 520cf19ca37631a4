-- Purpose: the identifier initdb gave the cluster: the same on its standbys, another on any other cluster.
-- Privileges: EXECUTE on pg_control_system(), which some managed services revoke
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/functions-info.html
SELECT system_identifier::text AS identifier FROM pg_control_system();
