"""Signals end what a command does cleanly: they set its `Stop`, instead of an exception wherever it happens to be."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from maint.clock import Stop
from maint.errors import Stopped

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ended_by_signals(stop: Stop) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP set `stop`; a second one ends the process at once."""

    def ask(number: int) -> None:
        stop.set(Stopped(f"stopped by {signal.Signals(number).name}"))

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        ask(number)

    before = {number: signal.signal(number, handle) for number in _ENDING}
    try:
        with _woken_by_signals(ask):
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _woken_by_signals(ask: Callable[[int], None]) -> Iterator[None]:
    """Call `ask` from a thread of its own.

    A handler runs in the main thread alone, when that executes Python again. The system may give a signal to any
    thread, or just before the main one begins to wait for a lock: nothing wakes it then [tried].
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def read() -> None:
        while number := os.read(reader, 1):
            if number[0] in _ENDING:
                ask(number[0])
        os.close(reader)

    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=read, name="signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)
