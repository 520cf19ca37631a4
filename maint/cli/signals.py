"""Signals end what a command does cleanly: they set its `Stop`, instead of an exception wherever it happens to be."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from maint.clock import Stop
from maint.errors import Stopped

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; a second one ends the process at once."""

    def ask(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set(Stopped(f"stopped by {signal.Signals(number).name}"))

    before = {number: signal.signal(number, ask) for number in _ENDING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
