"""What a run writes to the history; a history that cannot be written is told, and ends no backup."""

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

from maint.clock import Clock
from maint.errors import HistoryError
from maint.history import History
from maint.log import Capture
from maint.model import Finding, Outcome, Run, Sample, Severity, Step


class Journal:
    """One run's page in the history. After the first failed write it only remembers that."""

    def __init__(self, history: History | None, run: Run, clock: Clock, log: logging.Logger) -> None:
        self._history = history
        self._clock = clock
        self._log = log
        self.run = run
        self.broken: HistoryError | None = None

    def _write(self, write: Callable[[History], object]) -> None:
        if self._history is None or self.broken:
            return
        try:
            write(self._history)
        except HistoryError as error:
            self.broken = error
            self._log.error("the history cannot be written: %s", error)

    def step(self, step: Step) -> None:
        self._write(lambda history: history.record(self.run.id, step))
        for sample in step.result.samples:
            self._write(partial(self._sample, sample))

    def _sample(self, sample: Sample, history: History) -> None:
        history.sample(self.run.id, self.run.server, sample, self._clock.now())

    def finding(self, finding: Finding) -> None:
        self._write(lambda history: history.report(self.run.id, self.run.server, finding, self._clock.now()))

    def beat(self, progress: Mapping[str, Any], capture: Capture) -> None:
        self._write(lambda history: history.heartbeat(self.run.id, progress, self._clock.now()))
        self.flush(capture)

    def flush(self, capture: Capture) -> None:
        if text := capture.take():
            self._write(lambda history: history.log(self.run.id, text))

    def finish(self, outcome: Outcome, summary: str, error: str | None, hint: str | None) -> None:
        now = self._clock.now()
        self.broken = None  # it may work again: a run that has ended must not look lost
        self._write(lambda history: history.finish(self.run.id, outcome, summary, error, hint, now=now))

    def trouble(self) -> Finding | None:
        """Return what to tell of a history that does not work."""
        if self._history is not None and not self.broken:
            return None
        return Finding(
            check="history.unwritable",
            severity=Severity.CRITICAL,
            object="history",
            message=f"the history cannot be written: {self.broken or 'it did not open'}",
            fix=self.broken.hint if self.broken else None,
        )

    def recent(self, name: str, object_: str) -> list[float]:
        """Return the newest values of a sample on this server, newest first; none without a history."""
        found: list[float] = []
        if self._history is not None:
            with suppress(HistoryError):
                found = self._history.recent(name, self.run.server, object_)
        return found
