-- Purpose: whether a transaction seen before is still open: its locks are held if and only if it is.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/view-pg-locks.html
SELECT EXISTS (SELECT FROM pg_locks
               WHERE locktype = 'virtualxid' AND granted AND pid = %(pid)s
                 AND virtualtransaction = %(transaction)s) AS holds;
