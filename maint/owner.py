"""Which process something belongs to, and whether it still lives: a pid alone is soon somebody else's."""

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class Owner:
    """A process, told apart from every other one before and after it on this machine."""

    pid: int
    started: str  #: clock ticks between boot and its start; "" where there is no /proc
    boot_id: str  #: changes with every boot; "" where there is no /proc

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        return cls(os.getpid(), _started(os.getpid()), boot_id())

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the owner that `str` has written, or None if this is not one."""
        try:
            fields = json.loads(text)
            return cls(int(fields["pid"]), str(fields["started"]), str(fields["boot_id"]))
        except (ValueError, KeyError, TypeError):
            return None

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    def lives(self) -> bool:
        """Return whether this very process still runs."""
        if self.boot_id != boot_id():
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it runs as somebody else
            pass
        return _started(self.pid) == self.started


@cache
def boot_id() -> str:
    """Return what identifies this boot of this machine; "" where there is no /proc."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    after_name = stat.rpartition(")")[2].split()  # the name may hold anything, also spaces and ")"
    return after_name[19]  # proc(5): field 22, starttime
