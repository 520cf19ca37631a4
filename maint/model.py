"""The value types everything else speaks in. Terms: README, "Terms"."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"
    WARNED = "warned"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    SKIPPED = "skipped"
    STOPPED = "stopped"
    LOST = "lost"


#: worst first: the exit code of several runs is that of the worst one
WORST_FIRST = (
    Outcome.LOST,
    Outcome.FAILED,
    Outcome.TIMED_OUT,
    Outcome.STOPPED,
    Outcome.WARNED,
    Outcome.SKIPPED,
    Outcome.SUCCEEDED,
)

EXIT_CODES: Mapping[Outcome, int] = {
    Outcome.SUCCEEDED: 0,
    Outcome.FAILED: 1,
    Outcome.LOST: 1,
    Outcome.WARNED: 3,
    Outcome.SKIPPED: 4,
    Outcome.STOPPED: 5,
    Outcome.TIMED_OUT: 6,
}


class StepOutcome(StrEnum):
    """What became of one action."""

    DONE = "done"
    NO_EFFECT = "no_effect"
    SKIPPED = "skipped"
    FAILED = "failed"
    NOT_REACHED = "not_reached"


#: the note of an action that a retry leaves out
DONE_BEFORE = "done by an earlier attempt"


class _Ordered(StrEnum):
    """A scale, in the order of its definition. All four operators: those inherited from str are alphabetical."""

    @property
    def rank(self) -> int:
        return list(type(self)).index(self)

    def __lt__(self, other: str) -> bool:
        return self.rank < type(self)(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= type(self)(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > type(self)(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= type(self)(other).rank


class Severity(_Ordered):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Trust(_Ordered):
    """How far a backup can be trusted, from the evidence beside it."""

    DAMAGED = "damaged"
    STORED = "stored"
    CHECKED = "checked"
    RESTORED = "restored"
    PROVEN = "proven"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a check found."""

    check: str  #: which check, as in "backup.empty"
    severity: Severity
    object: str  #: what it is about: "shop", "shop/public.orders", "repository offsite"
    message: str  #: one sentence
    value: str | None = None
    threshold: str | None = None
    scope: str | None = None  #: how much was looked at: "70 of 70"
    examples: tuple[str, ...] = ()
    fix: str | None = None  #: one command or SQL statement to copy; never executed
    withheld: str | None = None  #: why there is no value
    where: str | None = None  #: "laboratory": on a restored copy; None: on production

    def fingerprint(self, server: str) -> str:
        """Identify the problem on `server`: of check, server and object, never of the value."""
        return hashlib.sha256("\0".join((self.check, server, self.object)).encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured number."""

    name: str
    object: str
    value: float
    unit: str  #: "bytes", "seconds", "rows", …


@dataclass(frozen=True, slots=True)
class Action:
    """What a task plans to do to one object."""

    verb: str  #: "backup", "delete", "run", …
    object: str
    commands: tuple[str, ...] = ()  #: exactly what will be executed, without secrets
    reason: str = ""
    skip: str | None = None  #: why it will not be done: a candidate that was rejected
    predicted_seconds: float | None = None
    lock: str | None = None  #: the lock it takes on the object, in PostgreSQL's words
    database: str | None = None  #: whose exclusion lock a heavy task takes for it
    key: str | None = None  #: actions of one key run one after another, in the planned order
    payload: Any = field(default=None, compare=False, repr=False)  #: the task's own; never recorded


@dataclass(frozen=True, slots=True)
class Result:
    """What `act` has to say about one action."""

    outcome: StepOutcome = StepOutcome.DONE
    note: str = ""
    before: Mapping[str, Any] = field(default_factory=dict)
    after: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    samples: tuple[Sample, ...] = ()
    transient: bool = False  #: of a failure: whether the same attempt may succeed a little later


@dataclass(frozen=True, slots=True)
class Step:
    """What became of one action, as kept in the history."""

    action: Action
    result: Result
    started_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt to work a slot; a row in the history."""

    id: int
    job: str
    task: str
    server: str  #: "-" for an installation-wide run
    slot: str  #: RFC 3339 in UTC, or "manual:<run>"
    attempt: int
    started_at: datetime
    finished_at: datetime | None = None
    outcome: Outcome | None = None  #: None while it runs
    summary: str = ""
    error: str | None = None
    hint: str | None = None
    heartbeat_at: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    pid: int | None = None
    host: str | None = None
    boot_id: str | None = None
    options_digest: str | None = None
