"""The only module that asks for the time or sleeps; and how work is told to end early."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Protocol

from maint.errors import MaintError, Stopped


class Clock(Protocol):
    """Passed in wherever time matters, so that tests and the simulation can bring their own."""

    def now(self) -> datetime:
        """Return the present instant, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        ...

    def wait(self, stop: "Stop", seconds: float) -> bool:
        """Wait `seconds`, or less if `stop` is set; return whether it is."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def wait(self, stop: "Stop", seconds: float) -> bool:
        return stop.wait(seconds)


class Stop:
    """Tells everything that belongs to one run to end, and why.

    Whatever blocks (a program, a connection, an upload) registers how to interrupt it with `interrupts`;
    what loops calls `check` now and then.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._lock = threading.RLock()  # a signal handler may interrupt its own thread inside
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._next = 0
        self._reason: MaintError | None = None

    @property
    def reason(self) -> MaintError | None:
        """The error that `check` raises, or None while nothing has been asked to end."""
        return self._reason

    def set(self, reason: MaintError | None = None) -> None:
        """Ask everything to end; the first reason counts. Safe to call from a signal handler's thread."""
        with self._lock:
            if self._event.is_set():
                return
            self._reason = reason or Stopped()
            self._event.set()
            callbacks = list(self._callbacks.values())
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        return self._event.is_set()

    def check(self) -> None:
        """Raise the reason if something asked to end."""
        if self._reason is not None:
            raise self._reason

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)

    @contextmanager
    def interrupts(self, callback: Callable[[], None]) -> Iterator[None]:
        """Call `callback` (at once, if it is too late) when asked to end while the block runs.

        It is called from another thread, must not block, and may be called after the work ended.
        """
        with self._lock:
            self._next += 1
            token = self._next
            self._callbacks[token] = callback
            late = self._event.is_set()
        if late:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.pop(token, None)
