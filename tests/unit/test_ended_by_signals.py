"""A signal reaches the run whatever the main thread waits for, and whichever thread the system gives it to."""

import signal
import threading

import pytest

from maint.cli.signals import ended_by_signals
from maint.clock import Stop


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_another_thread_gets_while_the_main_one_waits(stop: Stop, number: signal.Signals) -> None:
    noticed: list[bool] = []
    waited_for = threading.Event()

    def get() -> None:
        threading.Event().wait(0.2)  # by then the main thread waits
        signal.pthread_kill(threading.get_ident(), number)
        noticed.append(stop.wait(5))
        waited_for.set()

    with ended_by_signals(stop):
        thread = threading.Thread(target=get)
        thread.start()
        waited_for.wait()  # without a time limit: no handler runs in here
        thread.join()
    assert noticed == [True]
    assert str(stop.reason) == f"stopped by {number.name}"


def test_everything_is_as_it_was_afterwards(stop: Stop) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with ended_by_signals(stop):
        assert signal.getsignal(signal.SIGTERM) != before[1]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert not stop.is_set()
