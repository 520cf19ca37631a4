"""The options of the task, and what its parts share."""

from datetime import timedelta
from typing import Literal

from pydantic import Field

from maint.backups.stores import StoreOptions
from maint.config.model import ServerConfig
from maint.config.values import Duration
from maint.task import Context


class Options(StoreOptions):
    """Options of a job with ``task = "backup"``."""

    format: Literal["custom", "directory"] = Field("custom", description="directory: parallel, needs local disk")
    parallel: int = Field(2, ge=1, le=64, description="workers of pg_dump in the directory format")
    lock_wait: Duration = Field(timedelta(minutes=5), description="how long pg_dump waits for its table locks")
    globals: bool = Field(True, description="store roles and tablespaces with each backup")


def server_of(context: Context[Options]) -> ServerConfig:
    """Return the server of a run that has one."""
    assert context.server is not None  # noqa: S101 - the scope says so
    return context.server
