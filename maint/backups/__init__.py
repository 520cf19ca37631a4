"""Backups: the pipeline that makes them, the manifest that makes them exist, the inventory, retention, trust."""
