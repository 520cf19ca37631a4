"""What `maint demo` shows maint on: a throw-away server with a small shop, and a configuration for it."""

import json
import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pydantic import SecretStr

from maint import postgres, programs
from maint.clock import Stop, SystemClock
from maint.cluster import Cluster, sweep
from maint.config.model import ServerConfig
from maint.errors import UsageError

DATABASE = "shop"

_CONFIGURATION = """\
[server.main]
dsn = {dsn}
databases = ["{database}"]

[repository.local]
url = {url}
"""


class BackThen(SystemClock):
    """A clock that is behind, so that there can be backups of different ages."""

    def __init__(self, behind: timedelta) -> None:
        self._behind = behind

    def now(self) -> datetime:
        return super().now() - self._behind


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the shop holds."""

    rows: int
    tables: int
    schemas: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Shop:
    """A running server, and a folder with a configuration for it, the repository and the state."""

    cluster: Cluster
    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "maint.toml"

    @property
    def repository(self) -> Path:
        return self.folder / "backups"

    @property
    def configuration(self) -> str:
        """What an operator would have written."""
        url = json.dumps(f"file://{self.repository}", ensure_ascii=False)
        return _CONFIGURATION.format(dsn=json.dumps(self.cluster.dsn(), ensure_ascii=False), database=DATABASE, url=url)

    def write_configuration(self) -> None:
        """Write maint.toml. The state too stays in the folder, instead of where it usually is."""
        self.config.touch(mode=0o600)
        state = json.dumps(str(self.folder / "state"), ensure_ascii=False)
        self.config.write_text(f"state_dir = {state}\n\n{self.configuration}", encoding="utf-8")

    def fill(self, stop: Stop) -> Holdings:
        """Make the database; the server makes up the rows itself."""
        with postgres.connect(self._server, application_name="maint demo", stop=stop) as connection:
            connection.execute(f"CREATE DATABASE {DATABASE}")
        with self._connect(stop) as connection:
            connection.execute(postgres.statement("make_demo_shop", connection.major))
            (row,) = connection.query("describe_demo_shop")
            return Holdings(row.rows, row.tables, row.schemas, row.size_bytes)

    def sell(self, stop: Stop) -> None:
        """Do a day's business."""
        with self._connect(stop) as connection:
            connection.execute(postgres.statement("make_demo_sales", connection.major))

    def _connect(self, stop: Stop) -> postgres.Connection:
        return postgres.connect(self._server, DATABASE, application_name="maint demo", stop=stop)

    @property
    def _server(self) -> ServerConfig:
        return ServerConfig(name="main", dsn=SecretStr(self.cluster.dsn()))


@contextmanager
def shop(*, keep: Path | None, stop: Stop, log: logging.Logger) -> Iterator[Shop]:
    """Start a server; stop and remove it at the end. What maint writes goes too, unless into `keep`."""
    if keep is not None and keep.exists() and any(keep.iterdir()):
        raise UsageError(f"{keep} is not empty", hint="name a folder that does not exist yet")
    sweep()
    with ExitStack() as stack:
        cluster = stack.enter_context(Cluster.make(programs.server_installation(), stop=stop, log=log))
        folder = keep or cluster.folder / "demo"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        made = Shop(cluster, folder.resolve())
        made.write_configuration()
        yield made
