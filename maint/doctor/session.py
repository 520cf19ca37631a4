"""Sessions on managed servers that cannot hang."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from maint.clock import Clock, Stop
from maint.config.model import ServerConfig
from maint.errors import TimedOut
from maint.postgres import Connection, connect

#: seconds for everything that is asked on one connection
LIMIT = 30.0
#: seconds a server has to obey the cancellation before the connection is closed
_GRACE = 3.0
_CONNECT = 5


@contextmanager
def session(
    server: ServerConfig, database: str | None = None, *, clock: Clock, stop: Stop, limit: float = LIMIT
) -> Iterator[Connection]:
    """Connect; after `limit` seconds what runs there is cancelled, and raises `TimedOut`."""
    own, done = Stop(), Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.interrupts(lambda: own.set(stop.reason)))
        connection = stack.enter_context(
            connect(server, database, application_name="maint doctor", stop=own, connect_timeout=_CONNECT)
        )

        def watch() -> None:
            if clock.wait(done, limit):
                return
            own.set(TimedOut(f"no answer within {limit:.0f} s", hint="look for locks and load: pg_stat_activity"))
            if not clock.wait(done, _GRACE):  # its process hangs, or the network does
                connection.close()

        watcher = threading.Thread(target=watch, name="doctor", daemon=True)
        watcher.start()
        stack.callback(watcher.join)
        stack.callback(done.set)
        yield connection
