"""The history: opened, written in short transactions, read. Every method raises `HistoryError` alone."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from importlib import import_module
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Table, bindparam, delete, func, insert, select, update

import maint.history.claims as claims
from maint.config.model import Config
from maint.history.engine import connectable, file_exists, place_of, prepare_file, translated
from maint.history.reader import Reader
from maint.history.rows import clean, finding_values, sample_values, step_values
from maint.history.schema import facts, findings, logs, manifests, runs, samples, steps
from maint.history.upgrade import revision, upgrade
from maint.model import Finding, Outcome, Run, Sample, Step
from maint.owner import Owner

#: characters of log kept of one run, the newest
LOG_LIMIT = 1 << 20


class History(Reader):
    """Safe to share between threads; not across a fork: open it in the child."""

    # -- open and close --

    @classmethod
    def open(cls, config: Config) -> Self:
        """Open the history that `config` names; it is made, or migrated, if need be."""
        place = place_of(config)
        history = cls(place, connectable(place))
        try:
            with translated(place):
                if place.file is not None:
                    prepare_file(place.file)
                upgrade(history._engine)
        except BaseException:
            history.close()
            raise
        return history

    @classmethod
    def exists(cls, config: Config) -> bool:
        """Tell whether there is a history, without making one."""
        place = place_of(config)
        if place.file is not None and not file_exists(place.file):
            return False
        history = cls(place, connectable(place))
        try:
            with history._read() as connection:
                return revision(connection) is not None
        finally:
            history.close()

    def close(self) -> None:
        self._engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        with (
            translated(self.place),
            self._engine.connect().execution_options(writes=True) as connection,
            connection.begin(),
        ):
            yield connection

    # -- what a run writes --

    def claim(
        self,
        *,
        job: str,
        task: str,
        server: str,
        slot: str | None,
        attempt: int = 1,
        owner: Owner,
        host: str,
        now: datetime,
        options_digest: str | None = None,
    ) -> Run:
        """Enter a run that begins now, or raise `SlotTaken`. Without a slot it gets one of its own."""
        entry = {
            "job": job,
            "task": task,
            "server": server,
            "attempt": attempt,
            "started_at": now,
            "summary": "",
            "progress": {},
            "pid": owner.pid,
            "pid_started": str(owner.start),
            "host": host,
            "boot_id": owner.place,
            "options_digest": options_digest,
        }
        return claims.claim(self._write, entry, slot)

    def heartbeat(self, run_id: int, progress: Mapping[str, Any], now: datetime) -> bool:
        """Say that the run is alive and how far; False if somebody else has ended it in the history."""
        with self._write() as connection:
            changed = connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.outcome.is_(None))
                .values(heartbeat_at=claims.shared_now(connection, now), progress=clean(progress))
            )
            return changed.rowcount == 1

    def record(self, run_id: int, step: Step) -> None:
        """Keep one step, with its findings and samples left to `report` and `sample`."""
        with self._write() as connection:
            connection.execute(insert(steps).values(run_id=run_id, **step_values(step)))

    def report(self, run_id: int, server: str, finding: Finding, now: datetime) -> None:
        with self._write() as connection:
            connection.execute(insert(findings).values(run_id=run_id, at=now, **finding_values(server, finding)))

    def sample(self, run_id: int, server: str, sample: Sample, now: datetime) -> None:
        with self._write() as connection:
            connection.execute(insert(samples).values(run_id=run_id, at=now, **sample_values(server, sample)))

    def log(self, run_id: int, text: str) -> None:
        """Append to the log of the run; its newest megabyte is kept."""
        if not text:
            return
        with self._write() as connection:
            connection.execute(insert(logs).values(run_id=run_id, text=clean(text[-LOG_LIMIT:])))
            sizes = connection.execute(
                select(logs.c.id, func.length(logs.c.text)).where(logs.c.run_id == run_id).order_by(logs.c.id.desc())
            )
            if surplus := _beyond(LOG_LIMIT, [(row[0], row[1]) for row in sizes]):
                connection.execute(delete(logs).where(logs.c.run_id == run_id, logs.c.id <= surplus))

    def finish(
        self, run_id: int, outcome: Outcome, summary: str, error: str | None, hint: str | None, now: datetime
    ) -> bool:
        """Write how the run ended; False if that was written before.

        `lost` is overwritten: who writes here was only thought to be dead.
        """
        with self._write() as connection:
            changed = connection.execute(
                update(runs)
                .where(runs.c.id == run_id, runs.c.outcome.is_(None) | (runs.c.outcome == Outcome.LOST))
                .values(
                    outcome=outcome,
                    finished_at=now,
                    summary=clean(summary),
                    error=clean(error),
                    hint=clean(hint),
                )
            )
            return changed.rowcount == 1

    def lost(self, now: datetime, alive: Callable[[Owner], bool | None] = Owner.alive) -> list[Run]:
        """Mark as `lost`, and return, the unfinished runs whose process is gone.

        Where `alive` cannot tell (another host, container or boot): those without a heartbeat for five
        minutes, by the database's clock.
        """
        with self._write() as connection:
            return claims.lose(connection, now, alive)

    # -- small things kept --

    def remember(self, repository: str, found: Mapping[str, str]) -> None:
        """Keep manifests word by word: they hold no secrets, and their digests must stay right."""
        rows = [{"repository": repository, "path": path, "json": text} for path, text in found.items()]
        with self._write() as connection:
            _keep(connection, manifests, rows, "json")

    def forget(self, repository: str, paths: Iterable[str]) -> None:
        query = delete(manifests).where(manifests.c.repository == repository, manifests.c.path == bindparam("gone"))
        if rows := [{"gone": path} for path in paths]:
            with self._write() as connection:
                connection.execute(query, rows)

    def set_fact(self, key: str, value: Any) -> None:
        with self._write() as connection:
            _keep(connection, facts, [{"key": key, "value": clean(value)}], "value")


def _beyond(limit: int, sizes: Sequence[tuple[int, int]]) -> int | None:
    """Return the id up to which rows are more than `limit` together allows; `sizes` is newest first."""
    total = 0
    for row_id, size in sizes:
        total += size
        if total > limit:
            return row_id
    return None


def _keep(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], column: str) -> None:
    """Insert `rows`, or set their `column` where the key exists: in one statement, so that two may."""
    if not rows:
        return
    query = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)
    query = query.on_conflict_do_update(index_elements=list(table.primary_key), set_={column: query.excluded[column]})
    connection.execute(query, rows)
