-- Purpose: what is bound to a database and stays with it when another takes its name: slots and subscriptions.
-- Privileges: none (pg_subscription: all columns but the connection string are readable by all)
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-replication-slots.html
SELECT 'replication slot ' || slot_name AS what FROM pg_replication_slots WHERE database = %(database)s
UNION ALL
SELECT 'subscription ' || s.subname FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = %(database)s
ORDER BY 1;
