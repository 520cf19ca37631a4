"""What is read from the history."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, select

from maint.errors import HistoryError
from maint.history.engine import Place, translated
from maint.history.rows import FindingRow, SampleRow, StepRow, clean, finding_of, run_of, sample_of, step_of
from maint.history.schema import facts, findings, logs, manifests, runs, samples, steps
from maint.model import Outcome, Run, StepOutcome

#: how many runs back a prediction looks
_RECENT_RUNS = 20


class Reader:
    """The questions that `History` answers."""

    def __init__(self, place: Place, engine: Engine) -> None:
        self.place = place
        self._engine = engine

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with translated(self.place), self._engine.connect() as connection:
            yield connection

    def runs(
        self,
        *,
        job: str | None = None,
        server: str | None = None,
        outcome: Outcome | None = None,
        since: datetime | None = None,
        unfinished: bool = False,
        limit: int = 50,
    ) -> list[Run]:
        """Return runs, newest first."""
        query = select(runs).order_by(runs.c.started_at.desc(), runs.c.id.desc()).limit(limit)
        for column, value in ((runs.c.job, job), (runs.c.server, server), (runs.c.outcome, outcome)):
            if value is not None:
                query = query.where(column == value)
        if since is not None:
            query = query.where(runs.c.started_at >= since)
        if unfinished:
            query = query.where(runs.c.outcome.is_(None))
        with self._read() as connection:
            return [run_of(row) for row in connection.execute(query)]

    def run(self, run_id: int) -> Run:
        """Return one run, or raise `HistoryError` if there is none of this number."""
        with self._read() as connection:
            row = connection.execute(select(runs).where(runs.c.id == run_id)).one_or_none()
        if row is None:
            raise HistoryError(f"there is no run {run_id}", hint="maint history")
        return run_of(row)

    def last_of(self, job: str, server: str) -> Run | None:
        """Return the newest run of a job on a server, finished or not."""
        return next(iter(self.runs(job=job, server=server, limit=1)), None)

    def last_bad(self) -> Run | None:
        """Return the newest run that ended and did not succeed."""
        bad = [outcome.value for outcome in Outcome if outcome is not Outcome.SUCCEEDED]
        candidates = [found for outcome in bad for found in self.runs(outcome=Outcome(outcome), limit=1)]
        return max(candidates, key=lambda run: (run.started_at, run.id), default=None)

    def steps(self, run_id: int) -> list[StepRow]:
        return [step_of(row) for row in self._of_run(steps, run_id)]

    def findings(self, run_id: int) -> list[FindingRow]:
        return [finding_of(row) for row in self._of_run(findings, run_id)]

    def samples(self, run_id: int) -> list[SampleRow]:
        return [sample_of(row) for row in self._of_run(samples, run_id)]

    def log_text(self, run_id: int) -> str:
        return self.log_after(run_id, 0)[0]

    def log_after(self, run_id: int, position: int) -> tuple[str, int]:
        """Return what was logged after `position` (0 = from the beginning), and the position reached."""
        rows = [row for row in self._of_run(logs, run_id) if row.id > position]
        return "".join(row.text for row in rows), rows[-1].id if rows else position

    def _of_run(self, table: Any, run_id: int) -> Sequence[Any]:
        with self._read() as connection:
            return connection.execute(select(table).where(table.c.run_id == run_id).order_by(table.c.id)).all()

    def recent(self, name: str, server: str, object_: str, *, limit: int = 20) -> list[float]:
        """Return the values of the latest samples of this name, newest first."""
        query = (
            select(samples.c.value)
            .where(samples.c.server == server, samples.c.name == name, samples.c.object == clean(object_))
            .order_by(samples.c.at.desc(), samples.c.id.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return list(connection.scalars(query))

    def durations(self, job: str, server: str, object_: str, *, verb: str | None = None) -> list[float]:
        """Return how many seconds this object took in the latest runs, newest first; done steps only."""
        recent = (
            select(runs.c.id)
            .where(runs.c.job == job, runs.c.server == server, runs.c.outcome.is_not(None))
            .order_by(runs.c.started_at.desc(), runs.c.id.desc())
            .limit(_RECENT_RUNS)
        )
        query = select(steps.c.seconds).where(
            steps.c.run_id.in_(recent), steps.c.object == clean(object_), steps.c.outcome == StepOutcome.DONE
        )
        if verb is not None:
            query = query.where(steps.c.verb == verb)
        with self._read() as connection:
            return list(connection.scalars(query.order_by(steps.c.id.desc())))

    def not_reached(self, job: str, server: str) -> list[str]:
        """Return the objects that the newest finished run did not reach: they come first in the next."""
        newest = (
            select(runs.c.id)
            .where(runs.c.job == job, runs.c.server == server, runs.c.outcome.is_not(None))
            # these ended without planning anything
            .where(runs.c.outcome.not_in((Outcome.SKIPPED, Outcome.LOST)))
            .order_by(runs.c.started_at.desc(), runs.c.id.desc())
            .limit(1)
        )
        query = select(steps.c.object).where(
            steps.c.run_id == newest.scalar_subquery(), steps.c.outcome == StepOutcome.NOT_REACHED
        )
        with self._read() as connection:
            return list(connection.scalars(query.order_by(steps.c.id)))

    def cached(self, repository: str) -> dict[str, str]:
        """Return the manifests remembered of a repository: path -> JSON text."""
        query = select(manifests.c.path, manifests.c.json).where(manifests.c.repository == repository)
        with self._read() as connection:
            return {row.path: row.json for row in connection.execute(query)}

    def fact(self, key: str) -> Any:
        """Return the JSON value kept under `key`; None if there is none."""
        with self._read() as connection:
            return connection.scalar(select(facts.c.value).where(facts.c.key == key))
