-- Purpose: subscriptions of this database whose connection string holds a password, which a dump shows in plain text.
-- Privileges: superuser (only its dump has subscriptions)
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-subscription.html
SELECT count(*) AS subscriptions
FROM pg_subscription
WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND (subconninfo ~* 'password\s*=' OR subconninfo ~ '^postgres(ql)?://[^/@]*:[^/@]*@');
