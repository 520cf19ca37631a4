"""What tests share: servers, a configured maint, waiting."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str = "", *, seconds: float = 20) -> T:
    """Return what `condition` returns as soon as that is true; fail after `seconds`."""
    pause = threading.Event()
    for _ in range(int(seconds * 100)):
        if result := condition():
            return result
        pause.wait(0.01)
    raise AssertionError(f"waited {seconds:g} s in vain" + (f" for {what}" if what else ""))
