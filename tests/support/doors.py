"""Doors: every outside effect of a run passes one, and a test can have something happen at any crossing.

`Doors` belongs into a forked child (`maint.start("run", "backup", first=doors.install)`). It notes each crossing,
before and after the effect, in a file, and at the `at`-th it does `act`: kills the process, or presses Ctrl-C.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

from support.maint import Answer, Maint


def die() -> None:
    """End as if the kernel's memory had run out."""
    os.kill(os.getpid(), signal.SIGKILL)


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Doors:
    """Counts the crossings of one process and does `act` at one of them.

    `at` is its number (from 1; 0: at none), or a pattern: the first one with a name like that.
    """

    def __init__(self, log: Path, at: int | str = 0, act: Callable[[], None] = die) -> None:
        self._log = log
        self._at = at
        self._act = act
        self._number = 0
        self._lock = threading.RLock()
        log.write_text("")

    @property
    def crossed(self) -> list[str]:
        """Return the names of all crossings so far, in order; the last one is where `die` was done."""
        return self._log.read_text().splitlines()

    def cross(self, name: str) -> None:
        with self._lock:  # who dies here takes everybody along before the effect
            self._number += 1
            with self._log.open("a") as log:
                log.write(f"{self._number} {name}\n")
            if self._is_it(name):
                self._at = 0
                self._act()

    def _is_it(self, name: str) -> bool:
        if isinstance(self._at, int):
            return self._number == self._at
        return re.search(self._at, name) is not None

    def install(self) -> None:
        """Put this into every door; in a child, for good."""
        self._postgres()
        self._process()
        self._directory()
        self._s3()
        self._history()
        self._scratch()

    def _around(self, owner: Any, attribute: str, name: Callable[..., str]) -> None:
        inner = getattr(owner, attribute)

        @wraps(inner)
        def outer(*arguments: Any, **named: Any) -> Any:
            what = name(*arguments)
            self.cross(f"before {what}")
            result = inner(*arguments, **named)
            self.cross(f"after {what}")
            return result

        setattr(owner, attribute, outer)

    def _around_each(self, owner: Any, attribute: str, name: Callable[..., str]) -> None:
        """Stand before and behind a generator."""
        inner = getattr(owner, attribute)

        @wraps(inner)
        def outer(*arguments: Any, **named: Any) -> Iterator[Any]:
            what = name(*arguments)
            self.cross(f"before {what}")
            yield from inner(*arguments, **named)
            self.cross(f"after {what}")

        setattr(owner, attribute, outer)

    def _postgres(self) -> None:
        import psycopg

        from maint import postgres

        self._around(psycopg, "connect", lambda *_: "connect")
        self._around(postgres.Connection, "_run", lambda _, query, *__: f"query {' '.join(str(query).split())[:60]}")
        self._around(postgres.Connection, "perform", lambda *_: "perform")
        self._around(postgres.Connection, "close", lambda *_: "close connection")

    def _process(self) -> None:
        from maint.process import Program

        for attribute in ("_start", "_end", "read", "wait"):
            self._around(Program, attribute, lambda program, *_, what=attribute: f"{what} {program.command.name}")

    def _directory(self) -> None:
        from maint.repository import directory_upload
        from maint.repository.directory import DirectoryRepository
        from maint.repository.directory_upload import DirectoryUpload

        for attribute in ("__enter__", "write", "commit", "__exit__"):
            self._around(DirectoryUpload, attribute, lambda upload, *_, what=attribute: f"{what} {upload._path}")
        self._around(directory_upload, "_sync_folder", lambda folder: f"sync {folder.name}")
        for attribute in ("delete", "open"):
            self._around(DirectoryRepository, attribute, lambda _, path, what=attribute: f"{what} {path}")
        self._around(DirectoryRepository, "remove_empty", lambda _, folder: f"remove empty {folder.name}")
        self._around(DirectoryRepository, "sweep", lambda _: "sweep")
        self._around_each(DirectoryRepository, "list", lambda *_: "list")

    def _s3(self) -> None:
        from maint.repository.s3_client import Bucket
        from maint.repository.s3_sweep import Registry

        self._around(Bucket, "call", lambda _, operation, key=None: f"{operation} {key}")
        self._around_each(Bucket, "pages", lambda _, operation, *__: operation)
        self._around(Registry, "add", lambda _, key: f"note {key}")
        self._around(Registry, "name", lambda _, note, __: f"name {note}")

    def _history(self) -> None:
        from sqlalchemy import Engine, event

        from maint.history import History

        event.listen(Engine, "begin", lambda *_: self.cross("before history transaction"))
        event.listen(Engine, "commit", lambda *_: self.cross("before history commit"))
        inner = History._write

        @contextmanager
        def outer(history: History) -> Iterator[Any]:
            with inner(history) as connection:
                yield connection
            self.cross("after history commit")

        setattr(History, "_write", outer)  # noqa: B010 - its type differs

    def _scratch(self) -> None:
        from maint.runner.scratch import Scratch

        for attribute in ("__call__", "__exit__"):
            self._around(Scratch, attribute, lambda *_, what=attribute: f"{what} scratch")


def run_through(
    maint: Maint, at: int | str = 0, act: Callable[[], None] = die, *arguments: str
) -> tuple[Answer, list[str]]:
    """Run a command, by default the backup, with something happening at one crossing; return what was crossed."""
    doors = Doors(maint.folder / "output" / "crossings", at, act)
    answer = maint.start(*(arguments or ("run", "backup")), first=doors.install).wait()
    return answer, doors.crossed
