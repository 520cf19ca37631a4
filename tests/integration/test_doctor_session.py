"""Sessions of doctor end, whatever the server does; clocks are compared."""

import os
import signal
from datetime import UTC, datetime, timedelta

import pytest
from support.postgres import Database

from maint.clock import Stop, SystemClock
from maint.config.model import ServerConfig
from maint.doctor import servers
from maint.doctor.session import session
from maint.errors import Stopped, TimedOut


@pytest.fixture
def server(database: Database) -> ServerConfig:
    return ServerConfig.model_validate({"name": "main", "dsn": database.cluster.dsn(), "databases": [database.name]})


def test_slow_statement_is_cancelled(server: ServerConfig) -> None:
    with (
        session(server, clock=SystemClock(), stop=Stop(), limit=0.3) as connection,
        pytest.raises(TimedOut, match="no answer"),
    ):
        connection.execute("SELECT pg_sleep(60)")


def test_process_that_hangs_is_left(server: ServerConfig) -> None:
    pid = 0
    try:
        with session(server, clock=SystemClock(), stop=Stop(), limit=0.3) as connection:
            pid = connection.pid
            os.kill(pid, signal.SIGSTOP)
            with pytest.raises(TimedOut, match="no answer"):
                connection.execute("SELECT 1")
    finally:
        os.kill(pid, signal.SIGCONT)


def test_stop_ends_it(server: ServerConfig) -> None:
    stop = Stop()
    with session(server, clock=SystemClock(), stop=stop) as connection:
        stop.set()
        with pytest.raises(Stopped):
            connection.execute("SELECT pg_sleep(60)")


class WrongClock(SystemClock):
    """The clock of a machine that is wrong."""

    def __init__(self, by: timedelta) -> None:
        self.by = by

    def now(self) -> datetime:
        return datetime.now(UTC) + self.by


@pytest.mark.parametrize(
    ("seconds", "message"),
    [(0, "agrees with main"), (-60, "the clock of main is 1:00 ahead of"), (7, "the clock of main is 7.0 s behind")],
)
def test_clocks(server: ServerConfig, seconds: int, message: str) -> None:
    clock = WrongClock(timedelta(seconds=seconds))
    with session(server, clock=clock, stop=Stop()) as connection:
        found = servers.look(connection, server, clock)
    [line] = servers.clock([found], ["Europe/Berlin"], lambda zone: f"now in {zone}")
    assert line.message.startswith(message)
    assert line.status == ("WARN" if seconds else "OK")
