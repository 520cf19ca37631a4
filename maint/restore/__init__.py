"""Restores: a backup back into a database, by section, and what is compared afterwards."""
