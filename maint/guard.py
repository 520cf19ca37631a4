"""A small process beside maint that ends the programs of a maint that was killed; `maint.process` starts it.

Its standard input is a pipe that only maint holds open: ``+ <group> <signal>`` and ``- <group>`` tell which
process groups live, and the end of the pipe tells that maint is gone, whatever it died of.

Why not the kernel's parent-death signal: it fires when the *thread* that started the program ends, does not
reach the program's own children, is lost when a program changes its user, needs code between fork and exec
(which can deadlock where there are threads), and only Linux has it. And to wait for the program's SIGPIPE is
not enough: a pg_dump that waits for a lock writes nothing for hours.
"""

import os
import select
import signal
import sys

#: seconds between the program's own signal and SIGKILL
GRACE = 3.0


def _kill(group: int, number: int) -> bool:
    """Send a signal to a group; return whether there is still one."""
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # all that is left of it has changed its user
        return True
    return True


def _end(groups: dict[int, int]) -> None:
    for group, number in groups.items():
        _kill(group, number)
        _kill(group, signal.SIGCONT)  # a suspended one does not hear the first signal
    for _ in range(int(GRACE / 0.1)):
        if not any(_kill(group, 0) for group in groups):
            return
        select.select([], [], [], 0.1)
    for group in groups:
        _kill(group, signal.SIGKILL)


def main() -> None:
    """Keep the list of living groups until the pipe ends, then end what is left."""
    groups: dict[int, int] = {}
    for line in sys.stdin:
        match line.split():
            case ["+", group, number]:
                groups[int(group)] = int(number)
            case ["-", group]:
                groups.pop(int(group), None)
    _end(groups)


if __name__ == "__main__":
    main()
