"""Run programs: the only module that imports subprocess.

A program is an argument list (never a shell), in a session and process group of its own, with an environment
that holds little of the caller's. Its stderr goes line by line to the log, and its last lines into the error.
It ends with the `with` that runs it, with the run's `Stop`, and with maint itself, however that dies
(`maint.guard`).
"""

import atexit
import fcntl
import io
import logging
import os
import pwd
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from maint import guard
from maint.clock import Stop
from maint.errors import MaintError, ProgramError, ProgramFailed, ProgramMissing, TimedOut

#: what a program gets of maint's environment. Not PG*: the caller's PGOPTIONS must not reach a restore
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TZ", "TMPDIR")
_INHERITED_PREFIXES = ("LC_", "KRB5", "SSL_CERT_")

#: lines of stderr that go into the error
_TAIL = 25

#: a longer line is cut into several
_LINE_BYTES = 64 * 1024

#: seconds between SIGTERM and SIGKILL
_GRACE = 5.0

#: seconds between two looks whether it has ended
_LOOK = 0.02

#: Linux's default limit for an unprivileged process; the default of 64 KiB costs a switch per 64 KiB of dump
_PIPE_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Command:
    """What to run."""

    argv: tuple[str, ...]
    #: added to what every program inherits; secrets go here, never into argv
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    user: str | None = None  #: run as this user; only root can
    nice: int = 0
    end_signal: int = signal.SIGTERM  #: asks it to end

    @property
    def name(self) -> str:
        """What the log calls it."""
        return Path(self.argv[0]).name


class Program:
    """A running program; `read` makes it a source of bytes. Leaving the `with` ends all of its group."""

    def __init__(
        self,
        command: Command,
        *,
        stop: Stop,
        log: logging.Logger | None = None,
        stdin: bytes | int | None = None,
        fds: Sequence[int] = (),
        output: int | None = None,
    ) -> None:
        """Take `stdin` from bytes or from a file descriptor; give it `fds` too.

        `output` is a file descriptor that takes both stdout and stderr, instead of `read` and the log.
        """
        self.command = command
        self._stop = stop
        self._log = log or logging.getLogger("maint.process")
        self._stdin = stdin
        self._fds = tuple(fds)
        self._output = output
        self._tail: deque[str] = deque(maxlen=_TAIL)
        self._threads: list[threading.Thread] = []
        self._resources = ExitStack()
        self._process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Its process id, which is also that of its group."""
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._reap() if self._has_ended() else None

    @property
    def tail(self) -> tuple[str, ...]:
        """The last 25 lines of its stderr."""
        return tuple(self._tail)

    def __enter__(self) -> Self:
        self._stop.check()
        _guard.start()  # before the program: a maint killed in between leaves nothing behind
        self._process = self._start()
        self._resources.callback(self._end)
        _guard.add(self.pid, self.command.end_signal)
        if self.command.nice:
            with suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PGRP, self.pid, self.command.nice)
        self._connect()
        self._resources.enter_context(self._stop.interrupts(self._interrupt))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._resources.close()

    def read(self, n: int, /) -> bytes:
        """Return up to `n` bytes of its stdout as soon as there are some; b"" only after exit status 0.

        Raises `ProgramFailed`, or the reason for which it was stopped.
        """
        self._stop.check()
        data = os.read(self._stdout.fileno(), n)
        if not data:
            self._finish()
        return data

    def wait(self) -> None:
        """Wait for its end; what it writes to stdout goes to the log. Raises as `read` does."""
        if self._output is None:
            self._drain(self._stdout)
        self._finish()

    @property
    def _stdout(self) -> IO[bytes]:
        if self._process.stdout is None:
            raise ValueError("its output goes elsewhere")
        return self._process.stdout

    def _start(self) -> "subprocess.Popen[bytes]":
        pipe = subprocess.PIPE
        stdin = pipe if isinstance(self._stdin, bytes) else self._stdin
        try:
            return subprocess.Popen(  # noqa: S603 - an argument list
                self.command.argv,
                bufsize=0,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=pipe if self._output is None else self._output,
                stderr=pipe if self._output is None else self._output,
                cwd=self.command.cwd,
                env=_environment(self.command),
                start_new_session=True,
                pass_fds=self._fds,
                **_identity(self.command.user),
            )
        except FileNotFoundError as error:
            raise ProgramMissing(f"{error.filename or self.command.argv[0]} does not exist") from error
        except OSError as error:
            raise ProgramError(f"{self.command.argv[0]} cannot be started: {error.strerror}") from error

    def _connect(self) -> None:
        process = self._process
        if process.stdin is not None and isinstance(self._stdin, bytes):
            self._thread(_feed, process.stdin, self._stdin)
        if process.stdout is not None:
            self._resources.callback(process.stdout.close)
            with suppress(OSError, AttributeError):  # over the user's limit; macOS has no such call
                fcntl.fcntl(process.stdout.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        if process.stderr is not None:
            self._thread(self._follow, process.stderr, True)

    def _thread(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"{self.command.name} {self.pid}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _drain(self, stdout: IO[bytes]) -> None:
        """Log stdout from a thread; through a copy of the descriptor, which the thread can close."""
        self._thread(self._follow, os.fdopen(os.dup(stdout.fileno()), "rb", 0), False)

    def _follow(self, pipe: IO[bytes], keep: bool) -> None:
        prefix = self.command.name + ": "
        for line in _lines(pipe):
            if keep:
                self._tail.append(line)
            self._log.info("%s", line if line.startswith(prefix) else prefix + line)

    def _finish(self) -> None:
        """Raise unless it ended well."""
        status = self._reap()
        for thread in self._threads:
            thread.join(_GRACE)  # only a process that left the group can hold it up
        self._stop.check()
        if status != 0:
            raise ProgramFailed(self.command.name, status, self.tail)

    def _interrupt(self) -> None:
        """End it: from another thread, without waiting."""
        self._signal(self.command.end_signal)
        timer = threading.Timer(_GRACE, self._signal, (signal.SIGKILL,))
        timer.daemon = True
        self._resources.callback(timer.cancel)
        timer.start()

    def _end(self) -> None:
        if not self._has_ended():
            self._signal(self.command.end_signal)
            for _ in range(int(_GRACE / _LOOK)):
                if self._has_ended():
                    break
                Stop().wait(_LOOK)
            self._signal(signal.SIGKILL)
        self._reap()
        for thread in self._threads:
            thread.join(_GRACE)

    def _has_ended(self) -> bool:
        """Return whether it has. Its number stays its own until `_reap`."""
        if self._process.returncode is not None:
            return True
        with suppress(ChildProcessError):  # another thread has just reaped it
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
        return True

    def _reap(self) -> int:
        """Wait for its end, and return its exit status.

        What it left in its group would hold the pipes open. It ends now: later the number may be that of somebody
        else's group, and each session of a PostgreSQL server is one.
        """
        if self._process.returncode is None:
            with suppress(ChildProcessError):
                os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
                self._signal(signal.SIGKILL)
            _guard.remove(self.pid)
        return self._process.wait()

    def _signal(self, number: int) -> None:
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError, PermissionError):  # gone; macOS: only zombies are left
            os.killpg(self.pid, number)


def run(
    command: Command,
    *,
    stop: Stop,
    log: logging.Logger | None = None,
    timeout: float | None = None,
    input: bytes | None = None,  # noqa: A002 - as in the standard library
) -> str:
    """Run `command` to its end and return its stdout. Raises `TimedOut` after `timeout` seconds."""
    own = Stop()
    with ExitStack() as stack:
        stack.enter_context(stop.interrupts(lambda: own.set(stop.reason)))
        if timeout is not None:
            timer = threading.Timer(timeout, own.set, (_too_slow(command, timeout),))
            timer.daemon = True
            stack.callback(timer.cancel)
            timer.start()
        program = stack.enter_context(Program(command, stop=own, log=log, stdin=input))
        return b"".join(iter(lambda: program.read(_PIPE_BYTES), b"")).decode(errors="replace")


def can_become(user: str) -> bool:
    """Return whether programs can be run as `user`."""
    try:
        wanted = pwd.getpwnam(user).pw_uid
    except KeyError:
        return False
    return os.geteuid() in {0, wanted}


def _too_slow(command: Command, seconds: float) -> MaintError:
    return TimedOut(f"{command.name} has not ended within {seconds:g} s")


def _environment(command: Command) -> dict[str, str]:
    env = {
        name: value for name, value in os.environ.items() if name in _INHERITED or name.startswith(_INHERITED_PREFIXES)
    }
    env.setdefault("PATH", os.defpath)
    if everything := env.pop("LC_ALL", None):  # it would override LC_MESSAGES
        env = {name: value for name, value in env.items() if not name.startswith("LC_")} | {"LANG": everything}
    env["LC_MESSAGES"] = "C"  # errors are told apart by their text
    if command.user is not None:
        env |= {"HOME": pwd.getpwnam(command.user).pw_dir, "USER": command.user, "LOGNAME": command.user}
    return env | dict(command.env or {})


def _identity(user: str | None) -> dict[str, Any]:
    """Return Popen's arguments for running as `user`, with the groups it has."""
    if user is None or pwd.getpwnam(user).pw_uid == os.geteuid():
        return {}
    entry = pwd.getpwnam(user)
    return {
        "user": entry.pw_uid,
        "group": entry.pw_gid,
        "extra_groups": os.getgrouplist(user, entry.pw_gid),
    }


def _lines(pipe: IO[bytes]) -> Iterator[str]:
    with io.BufferedReader(cast("io.FileIO", pipe)) as reader:
        while line := reader.readline(_LINE_BYTES):
            if text := line.decode(errors="replace").rstrip():
                yield text


def _feed(pipe: IO[bytes], data: bytes) -> None:
    view = memoryview(data)
    with suppress(BrokenPipeError), pipe:
        while view:
            view = view[pipe.write(view) :]


class _Guard:
    """The pipe to the process of `maint.guard`; a forked child gets one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def add(self, group: int, number: int) -> None:
        self._send(f"+ {group} {int(number)}\n")

    def remove(self, group: int) -> None:
        self._send(f"- {group}\n")

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.communicate()
                self._process = None

    def forget(self) -> None:
        """In a forked child: close its copy of the pipe, or the end of the parent would go unnoticed."""
        self._lock = threading.Lock()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.returncode = 0  # somebody else's child: nothing to wait for
            self._process = None

    def start(self) -> None:
        with self._lock:
            if self._process is None:
                self._process = _start_guard()

    def _send(self, line: str) -> None:
        with self._lock:
            if self._process is not None and self._process.stdin is not None:
                with suppress(BrokenPipeError):  # it was killed: programs still end with their `with`
                    self._process.stdin.write(line.encode())


def _start_guard() -> "subprocess.Popen[bytes]":
    nowhere = subprocess.DEVNULL
    return subprocess.Popen(  # noqa: S603 - an argument list
        (sys.executable, "-I", "-S", guard.__file__),
        bufsize=0,
        stdin=subprocess.PIPE,
        stdout=nowhere,
        stderr=nowhere,
        env={},
        cwd="/",
        start_new_session=True,
    )


_guard = _Guard()
atexit.register(_guard.close)
os.register_at_fork(after_in_child=_guard.forget)
