"""Every error maint raises on purpose.

MaintError
├── UsageError                  exit 2: called or configured wrongly
│   └── ConfigError             all problems of all files at once
├── Stopped                     exit 5: asked to end (signal, window, priority)
├── TimedOut                    exit 6: the deadline of the run
│   └── Idle                    nothing moved for idle_timeout
├── ServerError                 a managed PostgreSQL server
│   ├── ServerUnavailable       transient: refused, restarted, cut off
│   ├── LockNotAvailable        transient: busy
│   └── PermissionDenied        this role may not
├── ProgramError                a program ended with an error
│   ├── ProgramMissing          none that fits is installed
│   └── ProgramFailed           its exit status and last words
├── RepositoryError             where backups are kept
│   ├── RepositoryUnavailable   transient: cut off, 5xx, slow down
│   ├── RepositoryDenied        credentials or permissions
│   ├── RepositoryFull          no space left
│   ├── NotFound                no such object
│   ├── Locked                  an object lock holds it
│   └── Damaged                 what is stored differs from what was sent
├── BackupError                 a dump that cannot be trusted
└── HistoryError                the history cannot be read or written
    ├── HistoryDenied           it belongs to another user
    └── SlotTaken               somebody else works this slot, or has
"""

from collections.abc import Sequence


class MaintError(Exception):
    """Something went wrong."""

    exit_code = 1
    #: whether the same attempt may succeed a little later
    transient = False

    def __init__(self, message: str | None = None, *, hint: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip())
        #: what the operator can do about it, one line
        self.hint = hint


class UsageError(MaintError):
    """maint was called wrongly."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration is not valid."""

    def __init__(self, problems: Sequence[str], *, hint: str | None = None) -> None:
        super().__init__("\n".join(problems), hint=hint)
        self.problems = tuple(problems)


class Stopped(MaintError):
    """Stopped before everything was done."""

    exit_code = 5


class TimedOut(MaintError):
    """The time limit was reached."""

    exit_code = 6


class Idle(TimedOut):
    """Nothing moved for too long."""


class ServerError(MaintError):
    """The PostgreSQL server reported an error."""

    def __init__(self, message: str | None = None, *, hint: str | None = None, sqlstate: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.sqlstate = sqlstate


class ServerUnavailable(ServerError):
    """The PostgreSQL server cannot be reached."""

    transient = True


class LockNotAvailable(ServerError):
    """Somebody holds a lock."""

    transient = True


class PermissionDenied(ServerError):
    """The role lacks a privilege."""


class ProgramError(MaintError):
    """A program failed."""


class ProgramMissing(ProgramError):
    """No suitable program is installed."""


class ProgramFailed(ProgramError):
    """A program ended with an error."""

    def __init__(self, program: str, status: int, tail: Sequence[str] = (), *, hint: str | None = None) -> None:
        died = f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"
        # pg_dump up to 15 says "error: query was: …" after the error itself
        errors = [line for line in tail if "error" in line.lower() and "error: query was:" not in line]
        last = (errors or list(tail) or [""])[-1]
        super().__init__(f"{program} {died}" + (f": {last.removeprefix(program + ': ')}" if last else ""), hint=hint)
        self.program = program
        self.status = status
        #: its last lines on stderr
        self.tail = tuple(tail)


class RepositoryError(MaintError):
    """The repository reported an error."""


class RepositoryUnavailable(RepositoryError):
    """The repository cannot be reached."""

    transient = True


class RepositoryDenied(RepositoryError):
    """The repository refuses access."""


class RepositoryFull(RepositoryError):
    """The repository is full."""


class NotFound(RepositoryError):
    """No such object."""


class Locked(RepositoryError):
    """An object lock forbids it."""


class Damaged(RepositoryError):
    """What is stored differs from what was written."""


class BackupError(MaintError):
    """The dump cannot be trusted."""


class HistoryError(MaintError):
    """The history cannot be read or written."""


class HistoryDenied(HistoryError):
    """The history belongs to another user."""

    def __init__(self, message: str | None = None, *, owner: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        #: the user who can read it, as sudo -u takes it
        self.owner = owner


class SlotTaken(HistoryError):
    """This slot is being worked, or has been."""

    def __init__(self, message: str | None = None, *, run_id: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        #: the run that has it
        self.run_id = run_id
