"""The task protocol: what the runner asks of every task, and what it offers to it."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from pydantic import BaseModel

from maint.clock import Clock, Stop
from maint.config.model import Config, Job, ServerConfig
from maint.model import Action, Finding, Result, Step

if TYPE_CHECKING:
    from maint.history import History

O = TypeVar("O", bound=BaseModel)  # noqa: E741 - the options, as DESIGN names them


class Scope(StrEnum):
    SERVER = "server"  #: one run per server
    INSTALLATION = "installation"  #: one run
    SAMPLER = "sampler"  #: a thread per server in one supervised child


class Progress(Protocol):
    """Where a task tells how far it is; also feeds the idle watchdog."""

    def __call__(self, object_: str, /, **numbers: Any) -> None:
        """Report on `object_`: `done_bytes`, `total_bytes`, `what`, … any JSON value; cheap, call it often."""
        ...


@dataclass(frozen=True, slots=True)
class Check:
    """One line of doctor."""

    status: str  #: "OK" | "WARN" | "FAIL"
    subject: str
    message: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Context(Generic[O]):
    """What a run offers to its task."""

    config: Config
    job: Job
    options: O
    server: ServerConfig | None  #: None for an installation-wide run
    run_id: int
    slot: str
    installation: str  #: which maint this is; part of every manifest
    dry_run: bool
    clock: Clock
    stop: Stop
    log: logging.Logger
    progress: Progress
    report: Callable[[Finding], None]  #: for findings that belong to no single action
    recent: Callable[[str, str], Sequence[float]]  #: newest values of a sample of an object on this server
    history: "History | None"  #: to read what was before; None if it could not be opened
    state: dict[str, Any]  #: the task's own memory within this run
    scratch: Callable[[], Path]  #: makes and returns a private folder (0700), removed after the run

    @property
    def application_name(self) -> str:
        """What sessions and programs of this run call themselves on a server."""
        return f"maint run {self.run_id}"


@dataclass(frozen=True, slots=True)
class Task(Generic[O]):
    """Code that knows how to do one kind of work."""

    name: str
    summary: str  #: one line for `maint tasks`
    options: type[O]
    scope: Scope
    heavy: bool  #: takes the database's exclusion lock
    plan: Callable[[Context[O]], Iterator[Action]]  #: reads only; a rejected candidate is an Action with `skip`
    act: Callable[[Context[O], Action], Result]  #: the only function that changes anything
    preflight: Callable[[Config, Job, ServerConfig | None], Iterator[Check]] | None = None  #: doctor's lines
    #: the run's summary, one line; may report what only the end of a run shows
    conclude: Callable[[Context[O], Sequence[Step]], str] | None = None
    #: more keys for `run --json`
    outputs: Callable[[Context[O], Sequence[Step]], Mapping[str, Any]] | None = None
    without_history: bool = False  #: runs even when the history cannot be written
    anywhere: bool = False  #: asks no managed server: where none is configured it runs once, for all
    #: clears what killed runs with these options left outside the scratch folder; returns what that was
    sweep: Callable[[O], Sequence[str]] | None = None
