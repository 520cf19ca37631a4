"""The options of the task, and what its parts share."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Literal

from pydantic import Field

from maint.config.model import Config, Job, Keep, RepositoryConfig, ServerConfig, Table
from maint.config.values import Duration
from maint.errors import UsageError
from maint.repository import Repository, open_repository
from maint.task import Context


class Options(Table):
    """Options of a job with ``task = "backup"``."""

    repositories: tuple[str, ...] = Field(("*",), min_length=1, description="patterns; one dump feeds all of them")
    format: Literal["custom", "directory"] = Field("custom", description="directory: parallel, needs local disk")
    parallel: int = Field(2, ge=1, le=64, description="workers of pg_dump in the directory format")
    compress: int = Field(3, ge=1, le=19, description="level of zstd")
    cpu: Literal["half", "all"] | None = Field(
        None,
        description="cores for compression; default: half, and nice, where the server is on this machine",
    )
    keep: Keep | None = Field(None, description="retention by age class; without it nothing is ever deleted")
    max_delete: int = Field(3, ge=1, description="a scheduled run that would delete more of a database deletes none")
    lock_wait: Duration = Field(timedelta(minutes=5), description="how long pg_dump waits for its table locks")
    globals: bool = Field(True, description="store roles and tablespaces with each backup")


#: repositories that are open, with what is configured of them
Stores = Sequence[tuple[Repository, RepositoryConfig]]


def server_of(context: Context[Options]) -> ServerConfig:
    """Return the server of a run that has one."""
    assert context.server is not None  # noqa: S101 - the scope says so
    return context.server


def open_stores(config: Config, job: Job, patterns: Sequence[str]) -> Stores:
    """Return the repositories of a job, connected to nothing yet. Raises `UsageError` if it has none."""
    configs = config.repositories_of(patterns)
    if not configs:
        raise UsageError(
            f"the job {job.name} has no repository to write to",
            hint='add [repository.local] with url = "file:///var/backups/maint" to maint.toml',
        )
    return [(open_repository(one, state_dir=config.state_dir), one) for one in configs]
