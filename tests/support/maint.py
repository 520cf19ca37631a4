"""A configured maint, and ways to run its commands: in a forked child, which has everything imported, or for real."""

import importlib
import itertools
import json
import os
import pkgutil
import select
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import maint
from support.postgres import Database

#: of the environment that tests run in, nothing else is passed on
_KEPT = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "SYSTEMROOT")


@dataclass(frozen=True)
class Answer:
    """How a command ended, and what it said."""

    code: int  #: its exit code; negative: the signal that ended it
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return stdout, which is one JSON value."""
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        """Return stdout, which is one JSON value per line."""
        return [json.loads(line) for line in self.out.splitlines()]


class Child:
    """A command that runs in a forked child, in a process group of its own."""

    def __init__(self, pid: int, out: Path, err: Path) -> None:
        self.pid = pid
        self._out = out
        self._err = err
        self._status: int | None = None

    @property
    def out(self) -> str:
        """Return what it has written to stdout until now."""
        return self._out.read_text()

    @property
    def err(self) -> str:
        """Return what it has written to stderr until now."""
        return self._err.read_text()

    @property
    def running(self) -> bool:
        """Return whether it has not ended yet."""
        return not self._ended(0)

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, alone."""
        os.kill(self.pid, number)

    def kill(self) -> Answer:
        """Kill it, alone: as the kernel does when memory runs out."""
        if self.running:
            self.send(signal.SIGKILL)
        return self.wait()

    def wait(self, seconds: float = 120) -> Answer:
        """Return its answer as soon as it has ended."""
        if not self._ended(seconds):
            self.send(signal.SIGKILL)
            self._ended(10)
            raise AssertionError(f"has not ended within {seconds:g} s; it said:\n{self.out}\n{self.err}")
        assert self._status is not None
        return Answer(os.waitstatus_to_exitcode(self._status), self.out, self.err)

    def _ended(self, seconds: float) -> bool:
        if self._status is not None:
            return True
        descriptor = os.pidfd_open(self.pid)
        try:
            ready, _, _ = select.select([descriptor], [], [], seconds)
        finally:
            os.close(descriptor)
        if ready:
            _, self._status = os.waitpid(self.pid, 0)
        return bool(ready)


@dataclass
class Maint:
    """One configuration with its own state, and the commands run with it."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    _numbers: Any = field(default_factory=itertools.count)
    _children: list[Child] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("home", "state", "jobs", "output"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        self.environment = {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "HOME": str(self.folder / "home"),
            "MAINT_CONFIG": str(self.config),
            "STATE_DIRECTORY": str(self.state),
            **self.environment,
        }

    @property
    def config(self) -> Path:
        return self.folder / "maint.toml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def repository(self) -> Path:
        """The folder of the repository "local"."""
        return self.folder / "repository"

    def __call__(self, *arguments: str, env: Mapping[str, str] | None = None, seconds: float = 120) -> Answer:
        """Run a command in a forked child, to its end."""
        return self.start(*arguments, env=env).wait(seconds)

    def start(
        self, *arguments: str, env: Mapping[str, str] | None = None, first: Callable[[], None] = lambda: None
    ) -> Child:
        """Begin a command in a forked child, which calls `first` before anything else."""
        import_everything()
        number = next(self._numbers)
        out, err = self.folder / "output" / f"{number}.out", self.folder / "output" / f"{number}.err"
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: fork where there are threads
            pid = os.fork()
        if pid == 0:
            _be_maint(arguments, self.environment | dict(env or {}), out, err, first)
        child = Child(pid, out, err)
        self._children.append(child)
        out.touch()
        err.touch()
        return child

    def real(self, *arguments: str, env: Mapping[str, str] | None = None, seconds: float = 120) -> Answer:
        """Run the real executable, to its end."""
        argv = (sys.executable, "-m", "maint", *arguments)
        whole = self.environment | dict(env or {})
        done = subprocess.run(argv, env=whole, capture_output=True, text=True, timeout=seconds, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)

    def json(self, *arguments: str) -> Any:
        """Return what a command says with --json; it must end well."""
        answer = self(*arguments, "--json")
        assert answer.code in (0, 3), answer
        return answer.json

    def write(self, text: str) -> None:
        """Write maint.toml."""
        self.config.write_text(text)

    def add(self, text: str) -> None:
        """Append to maint.toml."""
        with self.config.open("a") as file:
            file.write(text)

    def job(self, name: str, text: str) -> None:
        """Write a job file."""
        (self.folder / "jobs" / f"{name}.toml").write_text(text)

    def close(self) -> None:
        """End what a failed test has left running."""
        for child in self._children:
            with suppress(ProcessLookupError, AssertionError):
                child.kill()


def configuration(folder: Path, databases: list[Database], *, server: str = "", top: str = "") -> str:
    """Return a maint.toml for these databases of one server, and a repository "local" in `folder`.

    `server` and `top` are more lines for the table of the server and for the top level.
    """
    names = json.dumps([database.name for database in databases], ensure_ascii=False)
    dsn = json.dumps(databases[0].cluster.dsn(), ensure_ascii=False)
    url = json.dumps(f"file://{folder / 'repository'}")
    return f"""installation = "test"
{top}
[server.main]
dsn = {dsn}
databases = {names}
{server}

[repository.local]
url = {url}
"""


@cache
def import_everything() -> None:
    """Import all of maint, so that forked children need not."""
    for module in pkgutil.walk_packages(maint.__path__, "maint."):
        if "migrations" not in module.name and module.name != "maint.__main__":
            importlib.import_module(module.name)


def _be_maint(
    arguments: tuple[str, ...], environment: dict[str, str], out: Path, err: Path, first: Callable[[], None]
) -> NoReturn:
    """In the forked child: be the command, and never return into pytest."""
    code = 70
    try:
        os.setsid()
        _redirect(out, err)
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(environment["HOME"])
        tempfile.tempdir = None  # the parent remembers its own
        signal.signal(signal.SIGINT, signal.default_int_handler)
        first()
        from maint.cli import main

        main(list(arguments))
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001 - shown, as Python itself would
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _redirect(out: Path, err: Path) -> None:
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
