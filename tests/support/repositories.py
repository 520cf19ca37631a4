"""Repositories in a test's maint.toml."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from maint.config.model import RepositoryConfig
from support.maint import Maint, configuration
from support.postgres import Database


def write_with(maint: Maint, database: Database, *repositories: RepositoryConfig) -> None:
    """Write a maint.toml for one database with these repositories and no other."""
    servers = configuration(maint.folder, [database]).partition("[repository.local]")[0]
    maint.write(servers + "".join(table(one) for one in repositories))


def table(config: RepositoryConfig) -> str:
    """Return the table of a repository as it stands in maint.toml, secrets included."""
    lines = [f"{name} = {_toml(getattr(config, name))}\n" for name in sorted(config.model_fields_set - {"name"})]
    return f"\n[repository.{config.name}]\n{''.join(lines)}"


def _toml(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, timedelta):
        value = f"{value.total_seconds():.0f}s"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return json.dumps(str(value) if isinstance(value, Path) else value)
