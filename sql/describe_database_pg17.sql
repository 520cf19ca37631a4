-- Purpose: what a restore needs to know to make a fitting database.
-- Privileges: none
-- Version: 17+ (daticulocale became datlocale; provider builtin)
-- Source: https://www.postgresql.org/docs/17/catalog-pg-database.html
SELECT pg_encoding_to_char(d.encoding) AS encoding,
       d.datcollate AS collate,
       d.datctype AS ctype,
       CASE d.datlocprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin'
            ELSE d.datlocprovider::text END AS locale_provider,
       d.datlocale AS locale,
       d.datcollversion AS collation_version,
       pg_database_size(d.oid) AS size_bytes,
       pg_is_in_recovery() AS standby,
       current_setting('server_version') AS server_version
FROM pg_database d
WHERE d.datname = current_database();
