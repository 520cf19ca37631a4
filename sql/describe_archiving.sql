-- Purpose: whether WAL leaves the server: the archiver's own counters, and programs that receive a stream of it.
-- Privileges: none; the names of receivers need pg_monitor (other standbys are not told apart without it)
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/monitoring-stats.html#MONITORING-PG-STAT-ARCHIVER-VIEW
SELECT current_setting('archive_mode') AS mode,
       archived_count,
       extract(epoch FROM clock_timestamp() - last_archived_time)::float8 AS archived_seconds_ago,
       last_failed_time > last_archived_time OR (last_failed_time IS NOT NULL AND last_archived_time IS NULL) AS fails,
       extract(epoch FROM clock_timestamp() - last_failed_time)::float8 AS failed_seconds_ago,
       last_failed_wal,
       ARRAY(SELECT DISTINCT application_name FROM pg_stat_replication
             WHERE application_name ~ 'receive_?wal|receivexlog' ORDER BY 1) AS receivers
FROM pg_stat_archiver;
