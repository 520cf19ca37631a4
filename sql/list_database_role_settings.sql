-- Purpose: settings of a database, for everybody and per role. ALTER DATABASE … RENAME leaves them with the old one.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-db-role-setting.html
SELECT CASE WHEN s.setrole = 0 THEN NULL ELSE pg_get_userbyid(s.setrole) END AS role,
       split_part(c, '=', 1) AS name, substr(c, strpos(c, '=') + 1) AS value
FROM pg_db_role_setting s
JOIN pg_database d ON d.oid = s.setdatabase
CROSS JOIN unnest(s.setconfig) c
WHERE d.datname = %(database)s;
