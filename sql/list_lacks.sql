-- Purpose: what a dump by this role silently leaves out, with exit status 0 (only a superuser's dump is whole).
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/app-pgdump.html, view pg_user_mappings
SELECT (SELECT count(*) FROM pg_subscription
        WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
          AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)) AS subscriptions,
       (SELECT count(*) FROM pg_user_mappings
        WHERE umoptions IS NULL
          AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)) AS user_mappings,
       (SELECT count(*) FROM pg_roles
        WHERE rolcanlogin AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)) AS login_roles;
