"""The options of the task."""

import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from maint.config.model import AbsolutePath, Patterns, Table


class Options(Table):
    """Options of a job with ``task = "verify"``."""

    repositories: Patterns = Field(("*",), description="patterns: whose backups are restored")
    databases: Patterns = Field(("*",), description="patterns")
    backup: str | None = Field(
        None, description='this one alone: an id, or as in "shop@newest"; default: the newest of each, old ones in turn'
    )
    old: int = Field(1, ge=0, description="old backups of each database in a run, age classes taking turns")
    scratch_limit: float = Field(0.5, gt=0, le=1, description="share of the free space that a restored copy may take")
    scratch_dir: AbsolutePath | None = Field(
        None, description="where throw-away servers are made; default: $TMPDIR, else /var/tmp"
    )
    scratch: str | None = Field(
        None, description="a configured server to restore on, into a database of maint's own, instead"
    )
    jobs: int | None = Field(
        None,
        ge=1,
        le=64,
        description="of pg_restore; more than 1 needs local disk for the archive; default: 1, directory format: cores",
    )
    trusted: bool = Field(False, description="restore as superuser: whatever a dump holds may run programs there")
    collation: Literal["recorded", "substitute"] = Field(
        "recorded", description="substitute: under C where the locale is missing, and at most `restored`"
    )
    proven_share: float = Field(1.0, gt=0, le=1, description="of the tables, whose rows must have been compared")
    assertions: dict[str, tuple[str, ...]] = Field(
        default_factory=dict,
        description="by database (patterns): SQL that must answer true; current_setting('maint.created_at') is the"
        " instant of the backup",
    )
    laboratory: tuple[Literal["amcheck", "bloat"], ...] = Field((), description="expensive checks on the restored copy")

    @property
    def base(self) -> Path:
        """Where throw-away servers are made: on disk, which /tmp need not be."""
        return self.scratch_dir or Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - made with mkdtemp
