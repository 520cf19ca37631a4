"""Whose unfinished work is this? A name for the present process that a later one can judge."""

import os
import re
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Self

_NAME = re.compile(r"([0-9a-f]{12})-(\d+)-(\d+)")


@dataclass(frozen=True, slots=True)
class Owner:
    """One process: where it ran, its pid, and when it started (a pid alone is soon used again)."""

    place: str  #: of one boot of one machine, or container: only there a pid means anything
    pid: int
    start: int  #: clock ticks after boot; 0 where there is no /proc

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the owner that `str` has written, or None if this is not one."""
        found = _NAME.fullmatch(text)
        return cls(found[1], int(found[2]), int(found[3])) if found else None

    def __str__(self) -> str:
        return f"{self.place}-{self.pid}-{self.start}"

    def alive(self) -> bool | None:
        """Return whether this very process still runs; None if that cannot be seen from here."""
        if self.place != _place():
            return None
        return _start(self.pid) == self.start


def me() -> Owner:
    """Return the present process."""
    return of(os.getpid())


def of(pid: int) -> Owner:
    """Return the process that has this pid now."""
    return Owner(_place(), pid, _start(pid) or 0)


@cache
def _place() -> str:
    # Two containers share the boot id but not the pids; their pid namespaces tell them apart.
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return _digest(f"{boot} {Path('/proc/self/ns/pid').readlink()}")
    except OSError:
        return _digest(os.uname().nodename)


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:12]


def _start(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat (proc(5)); None without such a process, or if it is a zombie."""
    if not Path("/proc/self/stat").exists():
        return _exists(pid)
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in {"Z", "X"} else int(fields[19])


def _exists(pid: int) -> int | None:
    """Return 0 where there is such a process: all that can be known without /proc."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return 0
