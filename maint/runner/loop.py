"""Act on what was planned: N lanes at a time, never two actions of one key, one step an action."""

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from maint import log as logs
from maint.clock import Clock
from maint.errors import MaintError
from maint.model import DONE_BEFORE, Action, Finding, Result, Severity, Step, StepOutcome
from maint.runner.locks import Locks
from maint.runner.outcome import BUSY
from maint.runner.watch import Watch
from maint.task import Context, Task


@dataclass(slots=True)
class Loop:
    """The acting half of one attempt."""

    task: Task[Any]
    context: Context[Any]
    watch: Watch
    locks: Locks | None
    record: Callable[[Step], None]
    report: Callable[[Finding], None]
    done_before: Collection[tuple[str, str]] = ()  #: verb and object of what an earlier attempt has done
    ended: MaintError | None = None  #: what ended the run early

    @property
    def clock(self) -> Clock:
        return self.context.clock

    @property
    def log(self) -> logging.Logger:
        return self.context.log

    def run(self, actions: Sequence[Action], first: Collection[str]) -> None:
        """Work `actions`; lanes with an object in `first` (not reached last time) begin."""
        with ThreadPoolExecutor(self.context.job.parallel, thread_name_prefix="lane") as pool:
            futures = [pool.submit(logs.carrying(self._lane), lane) for lane in lanes(actions, first)]
            for future in as_completed(futures):
                future.result()

    def _lane(self, lane: Iterable[Action]) -> None:
        for action in lane:
            started, began = self.clock.now(), self.clock.monotonic()
            result = self._one(action)
            self.watch.finished(action.object)
            step = Step(action, result, started, self.clock.monotonic() - began)
            if result.outcome is StepOutcome.FAILED:
                self.log.error("%s of %s failed: %s", action.verb, action.object, result.note)
            for finding in result.findings:
                self.report(finding)
            self.record(step)

    def _one(self, action: Action) -> Result:
        if action.skip is not None:
            return Result(StepOutcome.SKIPPED, action.skip)
        if (action.verb, action.object) in self.done_before:
            return Result(StepOutcome.SKIPPED, DONE_BEFORE)
        if reason := self._why_not_now(action):
            return Result(StepOutcome.NOT_REACHED, reason)
        try:
            with self._exclusive(action) as holder:
                if holder is not None:
                    return self._busy(action, holder)
                return self.task.act(self.context, action)
        except Exception as error:  # noqa: BLE001 - a defect must not take the other actions with it
            return self._failed(failure(error, self.log, f"{action.verb} of {action.object}"))

    def _why_not_now(self, action: Action) -> str | None:
        if self.context.stop.reason is not None:
            self.ended = self.context.stop.reason
            return str(self.ended)
        window = self.context.job.hours
        now = self.clock.now()
        if window is not None and not window.contains(now):
            return f"outside of the window {self.context.job.window}"
        limits = [self.watch.left, window.remaining(now).total_seconds() if window else None]
        left = min((limit for limit in limits if limit is not None), default=None)
        if left is not None and action.predicted_seconds is not None and action.predicted_seconds > left:
            return f"predicted {action.predicted_seconds:.0f} s, {left:.0f} s were left"
        return None

    def _exclusive(self, action: Action) -> AbstractContextManager[str | None]:
        if self.locks is None or action.database is None or not self.task.heavy:
            return nullcontext()
        return self.locks.holding(action.database, self.context.job.wait)

    def _busy(self, action: Action, holder: str) -> Result:
        note = f"busy: {holder} works on {action.database}"
        finding = Finding(
            check=BUSY,
            severity=Severity.WARNING,
            object=action.object,
            message=f"{action.verb} of {action.object} was skipped: {holder} works on it",
            fix=f"maint run {self.context.job.name}",
        )
        return Result(StepOutcome.SKIPPED, note, findings=(finding,))

    def _failed(self, error: MaintError) -> Result:
        if self.context.stop.reason is not None:
            self.ended = self.context.stop.reason
            return Result(StepOutcome.NOT_REACHED, f"interrupted: {self.ended}")
        after = {"hint": error.hint} if error.hint else {}
        return Result(StepOutcome.FAILED, str(error), after=after, transient=error.transient)


def failure(error: Exception, log: logging.Logger, where: str) -> MaintError:
    """Return the error as it is told; a defect is one of ours, and where it lies is in the log."""
    if isinstance(error, MaintError):
        return error
    log.error("internal error in %s", where, exc_info=error)
    return MaintError(f"internal error: {type(error).__name__}: {error}")


def lanes(actions: Sequence[Action], first: Collection[str]) -> list[list[Action]]:
    """Group actions that must follow one another; lanes that were not reached last time come first."""
    grouped: dict[str, list[Action]] = {}
    for number, action in enumerate(actions):
        grouped.setdefault(action.key if action.key is not None else f"\0{number}", []).append(action)
    return sorted(grouped.values(), key=lambda lane: not any(action.object in first for action in lane))
