-- Purpose: options of foreign servers and user mappings that a dump by this role shows in plain text and that look
--          like a secret by their name. What this role cannot see is not in its dump either.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-user-mappings.html
SELECT (SELECT count(*) FROM pg_user_mappings, pg_options_to_table(umoptions)
        WHERE option_name ~* 'passw|secret|token|(access|private|api)_?key') AS user_mappings,
       (SELECT count(*) FROM pg_foreign_server, pg_options_to_table(srvoptions)
        WHERE option_name ~* 'passw|secret|token|(access|private|api)_?key') AS foreign_servers;
