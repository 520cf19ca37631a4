-- Purpose: number of large objects in the snapshot; they are in no table.
-- Privileges: none
-- Version: 14+
-- Source: https://www.postgresql.org/docs/current/catalog-pg-largeobject-metadata.html
SELECT count(*) AS large_objects FROM pg_largeobject_metadata;
