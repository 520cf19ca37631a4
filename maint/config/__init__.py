"""What the operator has decided: ``maint.toml`` and the job files, validated with every error at once."""

from maint.config.load import find, load

__all__ = ["find", "load"]
