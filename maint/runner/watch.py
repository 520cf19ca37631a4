"""The watchdog of a run: its deadline, its idle time, its heartbeat."""

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from maint.clock import Clock, Stop
from maint.errors import Idle, Stopped, TimedOut

_LOG = logging.getLogger("maint.run")

#: seconds between two looks, and at least between two heartbeats
_LOOK = 1.0


class Watch:
    """Knows how far the run is, tells the history once a second, and stops a run that is late or stuck."""

    def __init__(
        self,
        *,
        timeout: timedelta | None,
        idle_timeout: timedelta | None,
        clock: Clock,
        stop: Stop,
        beat: Callable[[Mapping[str, Any]], None],
        show: Callable[[Mapping[str, Any]], None] | None = None,
        window: float | None = None,
    ) -> None:
        """`window`: seconds until the job's window ends; None without one."""
        self._clock = clock
        self._stop = stop
        self._beat = beat
        self._show = show
        self._timeout = timeout
        self._idle_timeout = idle_timeout
        self._window = window
        self._began = self._moved = clock.monotonic()
        self._progress: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._done = Stop()
        self._thread = threading.Thread(target=self._work, name="watch", daemon=True)

    def progress(self, object_: str, /, **numbers: Any) -> None:
        """Take note of how far `object_` is; only what changed counts as moving."""
        with self._lock:
            if self._progress.get(object_) != numbers:
                self._progress[object_] = numbers
                self._moved = self._clock.monotonic()

    def heard(self) -> None:
        """Something of the run was logged, as by a program that tells what it does: it moves."""
        self._moved = self._clock.monotonic()

    def finished(self, object_: str) -> None:
        """`object_` needs no more watching."""
        with self._lock:
            self._progress.pop(object_, None)
            self._moved = self._clock.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        if self._timeout is None:
            return None
        return self._began + self._timeout.total_seconds() - self._clock.monotonic()

    def _work(self) -> None:
        while not self._clock.wait(self._done, _LOOK):
            with self._lock:
                progress = {name: dict(numbers) for name, numbers in self._progress.items()}
                idle = self._clock.monotonic() - self._moved
            self._judge(idle)
            try:
                self._beat(progress)
                if self._show:
                    self._show(progress)
            except Exception:  # noqa: BLE001 - a terminal that went away must not take the deadline with it
                _LOG.debug("the heartbeat failed", exc_info=True)

    def _judge(self, idle: float) -> None:
        if self.left is not None and self.left <= 0:
            self._stop.set(TimedOut(f"not done within its timeout of {self._timeout}", hint="raise timeout in the job"))
        elif self._window is not None and self._clock.monotonic() - self._began >= self._window:
            self._stop.set(Stopped("the window of the job has ended", hint="the rest comes first next time"))
        elif self._idle_timeout is not None and idle > self._idle_timeout.total_seconds():
            self._stop.set(
                Idle(
                    f"nothing moved for {self._idle_timeout} (idle_timeout)",
                    hint="is somebody holding a lock on the server (pg_stat_activity), or a program waiting for input?",
                )
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
