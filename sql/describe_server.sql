-- Purpose: what doctor tells of a server, and what it compares clocks with.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/hot-standby.html#HOT-STANDBY-CONFLICT
SELECT clock_timestamp() AS now,
       current_setting('server_version') AS version,
       pg_is_in_recovery() AS standby,
       quote_ident(current_user) AS role_quoted,
       current_setting('hot_standby_feedback')::boolean AS standby_feedback,
       (SELECT CASE WHEN setting::bigint < 0 THEN NULL ELSE setting::bigint / 1000.0 END::float8
        FROM pg_settings WHERE name = 'max_standby_streaming_delay') AS standby_delay_seconds;
