"""maint: keeps PostgreSQL databases backed up, provably restorable, vacuumed, tidy and understood."""

__version__ = "0.1.0"
