"""`maint doctor`: every precondition as one line, with the exact fix. Looks and probes; changes nothing.

Each area is a collector, which asks, and pure functions, which turn what was learned into lines. An area that
cannot be asked gives a line saying so, and keeps no other area from being asked.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, NoReturn
from zoneinfo import ZoneInfo

from maint.clock import Clock, Stop
from maint.config.model import Config, RepositoryConfig, ServerConfig
from maint.doctor import agenda, credentials, databases, machine
from maint.doctor import repositories as stores
from maint.doctor import servers as hosts
from maint.doctor.lines import guarded
from maint.doctor.promises import promises
from maint.doctor.session import LIMIT, session
from maint.errors import MaintError, ServerError, TimedOut
from maint.task import Check, Task


@dataclass
class Doctor:
    """One examination."""

    config: Config
    tasks: Mapping[str, Task[Any]]
    clock: Clock
    stop: Stop
    servers: Sequence[ServerConfig]
    repositories: Sequence[RepositoryConfig]
    write: bool = False  #: probe a bucket even if it would lock the small object
    limit: float = LIMIT  #: seconds for everything that is asked on one connection
    #: what was learned on the way
    _met: list[hosts.Server] = field(default_factory=list)

    def examine(self) -> Iterator[Check]:
        """Yield the lines, each as soon as it is known."""
        now = self.clock.now()
        yield from machine.user(self.config)
        yield from machine.files(self.config)
        yield from machine.history(self.config, self.clock)
        yield from agenda.coverage(self.config)
        for server in self.servers:
            yield from guarded(f"server {server.name}", partial(self._server, server, now))
            yield from promises(self.config, server.name, now)
        for repository in self.repositories:
            yield from self._repository(repository, now)
        yield from agenda.preflights(self.config, self.tasks, self.servers)
        yield from hosts.clock(self._met, agenda.zones(self.config), self._local_now)
        yield agenda.next_runs(self.config, now)

    def _server(self, config: ServerConfig, now: datetime) -> Iterator[Check]:
        hashes: list[str] = []
        try:
            with session(config, clock=self.clock, stop=self.stop, limit=self.limit) as connection:
                server = hosts.look(connection, config, self.clock)
                if server.role.superuser and self._keeps_passwords(config):
                    hashes = credentials.role_passwords(connection)
        except ServerError as error:
            yield hosts.unreachable(config, error)
            return
        self._met.append(server)
        yield from hosts.describe(server)
        yield hosts.programs(server)
        yield from hosts.left_by_restores(server)
        yield from hosts.standby(server)
        yield from self._databases(server, hashes)
        yield hosts.recovery(server, agenda.longest_gap(self.config, config, now))

    def _keeps_passwords(self, config: ServerConfig) -> bool:
        return any(options.globals for _, options in agenda.backup_jobs(self.config, config))

    def _databases(self, server: hosts.Server, hashes: Sequence[str]) -> Iterator[Check]:
        found = []
        for row in server.chosen:
            if line := databases.closed(server, row):
                yield line
                continue
            try:
                with session(server.config, row.name, clock=self.clock, stop=self.stop, limit=self.limit) as connection:
                    found.append(databases.look(connection, row, superuser=server.role.superuser))
            except (ServerError, TimedOut) as error:
                yield from guarded(f"{server.name}/{row.name}", partial(_raise, error))
                continue
            yield from databases.unreadable(server, found[-1])
        yield from databases.readable(server, found)
        yield from databases.lacks(server, found)
        where = agenda.repositories_of(self.config, server.config)
        yield from credentials.unencrypted(server, found, hashes, where)

    def _repository(self, config: RepositoryConfig, now: datetime) -> Iterator[Check]:
        return stores.examine(
            config,
            state_dir=self.config.state_dir,
            write=self.write,
            jobs=agenda.writers(self.config, config, now),
            expected=self._expected(config),
        )

    def _expected(self, config: RepositoryConfig) -> int | None:
        """Return the bytes that go there next: as last time, else the databases' own, which compressed are fewer."""
        sizes: dict[tuple[str, str], float] = {
            (server.name, row.name): row.size_bytes or 0
            for server in self._met
            if config in agenda.repositories_of(self.config, server.config)
            for row in server.chosen
        }
        return int(sum({**sizes, **machine.last_sizes(self.config, sizes)}.values())) if sizes else None

    def _local_now(self, zone: str) -> str:
        return f"{self.clock.now().astimezone(ZoneInfo(zone)):%a %d %b %H:%M %Z}"


def _raise(error: MaintError) -> NoReturn:
    raise error
