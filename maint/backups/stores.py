"""What jobs that make backups have in common: repositories, packing, retention."""

import os
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from maint.config.model import Config, Job, Keep, RepositoryConfig, Table
from maint.errors import UsageError
from maint.repository import Repository, open_repository

#: repositories that are open, with what is configured of them
Stores = Sequence[tuple[Repository, RepositoryConfig]]


class StoreOptions(Table):
    """Options of every job that makes backups."""

    repositories: tuple[str, ...] = Field(("*",), min_length=1, description="patterns; one pass feeds all of them")
    # on what databases hold (numbers, hashes, short texts) 3 takes 1.6 times as long as 2 and is not smaller [tried]
    compress: int = Field(2, ge=1, le=19, description="level of zstd")
    cpu: Literal["half", "all"] | None = Field(
        None,
        description="cores for compression; default: half, and nice, where what is backed up is on this machine",
    )
    keep: Keep | None = Field(None, description="retention by age class; without it nothing is ever deleted")
    max_delete: int = Field(3, ge=1, description="a scheduled run that would delete more of a database deletes none")

    def on_half(self, *, local: bool) -> bool:
        """Tell whether only half of the cores are used; `local`: what is backed up works on this machine, too."""
        return self.cpu == "half" or (self.cpu is None and local)

    def threads(self, *, local: bool) -> int:
        """Return how many threads the compressor has."""
        cores = os.cpu_count() or 1
        return max(1, cores // 2) if self.on_half(local=local) else cores


def open_stores(config: Config, job: Job, patterns: Sequence[str]) -> Stores:
    """Return the repositories of a job, connected to nothing yet. Raises `UsageError` if it has none."""
    configs = config.repositories_of(patterns)
    if not configs:
        raise UsageError(
            f"the job {job.name} has no repository to write to",
            hint='add [repository.local] with url = "file:///var/backups/maint" to maint.toml',
        )
    return [(open_repository(one, state_dir=config.state_dir), one) for one in configs]
