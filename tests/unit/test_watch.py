"""The watchdog: what ends a run, and what counts as moving. Time is the test's own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from maint.clock import Stop
from maint.errors import Idle, MaintError, Stopped, TimedOut
from maint.runner.watch import Watch

START = datetime(2026, 11, 20, tzinfo=UTC)


class Steps:
    """A clock that goes one second on at each wait, and ends the waiting after some."""

    def __init__(self, seconds: int, at_each: Any = None) -> None:
        self.seconds = 0
        self._last = seconds
        self._at_each = at_each

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)

    def monotonic(self) -> float:
        return float(self.seconds)

    def wait(self, stop: Stop, seconds: float) -> bool:
        if self.seconds >= self._last:
            return True
        self.seconds += 1
        if self._at_each:
            self._at_each(self.seconds)
        return False


def reason(clock: Steps, beat: Any = lambda _progress: None, **limits: Any) -> MaintError | None:
    """Run a watch to the end of the clock; return what it stopped the run for."""
    stop = Stop()
    watch = Watch(**{"timeout": None, "idle_timeout": None, **limits}, clock=clock, stop=stop, beat=beat)
    clock._at_each = clock._at_each and clock._at_each(watch)
    with watch:
        watch._thread.join()
    return stop.reason


def seconds(n: int) -> timedelta:
    return timedelta(seconds=n)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({}, None),
        ({"timeout": seconds(5)}, TimedOut),
        ({"timeout": seconds(50)}, None),
        ({"idle_timeout": seconds(5)}, Idle),
        ({"idle_timeout": seconds(50)}, None),
        ({"window": 5.0}, Stopped),
        ({"window": 50.0}, None),
    ],
)
def test_what_ends_a_run(limits: dict[str, Any], expected: type[MaintError] | None) -> None:
    found = reason(Steps(20), **limits)
    assert type(found) is (expected or type(None))


def test_progress_that_does_not_change_is_no_progress() -> None:
    def same(watch: Watch) -> Any:
        return lambda _second: watch.progress("shop", done_bytes=1)

    assert isinstance(reason(Steps(20, same), idle_timeout=seconds(5)), Idle)


def test_progress_that_changes_keeps_it_alive() -> None:
    def moving(watch: Watch) -> Any:
        return lambda second: watch.progress("shop", done_bytes=second)

    assert reason(Steps(20, moving), idle_timeout=seconds(5)) is None


def test_what_is_logged_keeps_it_alive() -> None:
    def logging_(watch: Watch) -> Any:
        return lambda _second: watch.heard()

    assert reason(Steps(20, logging_), idle_timeout=seconds(5)) is None


def test_a_heartbeat_that_fails_does_not_take_the_deadline_with_it() -> None:
    def broken(_progress: Any) -> None:
        raise OSError("the terminal is gone")

    assert isinstance(reason(Steps(20), beat=broken, timeout=seconds(5)), TimedOut)
