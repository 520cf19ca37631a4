"""Who works which slot: claimed once, one attempt at a time; and whose process is gone."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, insert, literal_column, select, update
from sqlalchemy.exc import IntegrityError

from maint.errors import SlotTaken
from maint.history.rows import run_of
from maint.history.schema import Instant, runs
from maint.model import Outcome, Run
from maint.owner import Owner

#: without a heartbeat for this long a run out of sight counts as lost; one is due every second
SILENCE = timedelta(minutes=5)

#: outcomes after which a slot is done with, and no further attempt may begin
_DONE = (Outcome.SUCCEEDED, Outcome.WARNED)


def claim(write: Callable[[], AbstractContextManager[Connection]], entry: Mapping[str, Any], slot: str | None) -> Run:
    """Insert the run `entry` for `slot`; without one it gets `manual:<its id>`."""
    try:
        with write() as connection:
            return _enter(connection, entry, slot)
    except _Refused:
        with write() as connection:
            raise _taken(connection, entry, slot) from None


class _Refused(Exception):
    """The database, or what is in it, refuses the claim."""


def _enter(connection: Connection, entry: Mapping[str, Any], slot: str | None) -> Run:
    heartbeat = shared_now(connection, entry["started_at"])
    values = {**entry, "heartbeat_at": heartbeat, "slot": slot or f"manual:{uuid4()}"}
    try:
        row = connection.execute(insert(runs).values(values).returning(runs)).one()
    except IntegrityError as error:
        raise _Refused from error
    if slot is None:
        return _name_slot(connection, row.id)
    # only now: the insert has waited for every other attempt that was not finished
    done = select(runs.c.id).where(
        runs.c.job == entry["job"],
        runs.c.server == entry["server"],
        runs.c.slot == slot,
        runs.c.outcome.in_(_DONE),
    )
    if connection.execute(done).first() is not None:
        raise _Refused
    return run_of(row)


def _name_slot(connection: Connection, run_id: int) -> Run:
    named = update(runs).where(runs.c.id == run_id).values(slot=f"manual:{run_id}").returning(runs)
    return run_of(connection.execute(named).one())


def _taken(connection: Connection, entry: Mapping[str, Any], slot: str | None) -> SlotTaken:
    where = (runs.c.job == entry["job"], runs.c.server == entry["server"], runs.c.slot == slot)
    newest = select(runs).where(*where).order_by(runs.c.outcome.is_(None).desc(), runs.c.id.desc()).limit(1)
    row = connection.execute(newest).one_or_none()
    if row is None:
        return SlotTaken(f"slot {slot} of {entry['job']} on {entry['server']} was taken a moment ago")
    return SlotTaken(_who(run_of(row)), run_id=row.id, hint=f"maint show {row.id}")


def _who(run: Run) -> str:
    what = f"{run.job} on {run.server}, slot {run.slot}"
    if run.outcome is not None:
        return f"{what}: worked by run {run.id}, {run.outcome.replace('_', ' ')}"
    since = f"{run.started_at:%Y-%m-%d %H:%M:%S}Z"
    return f"{what}: being worked by run {run.id}, pid {run.pid} on {run.host}, since {since}"


def shared_now(connection: Connection, now: datetime) -> datetime:
    """Return the instant by the clock that all hosts share; that of SQLite is our own."""
    if connection.dialect.name != "postgresql":
        return now
    clock = literal_column("(extract(epoch from clock_timestamp()) * 1000000)::bigint", Instant)
    return connection.execute(select(clock)).scalar_one() or now


def lose(connection: Connection, now: datetime, alive: Callable[[Owner], bool | None]) -> list[Run]:
    """Mark the unfinished runs whose process is gone, and return them."""
    shared = shared_now(connection, now)
    unfinished = connection.execute(select(runs).where(runs.c.outcome.is_(None)).order_by(runs.c.id)).all()
    gone = [(row.id, why) for row in unfinished if (why := _why_gone(row, shared, alive))]
    return [run for run_id, why in gone if (run := _mark(connection, run_id, now, why))]


def _why_gone(row: Row[Any], now: datetime, alive: Callable[[Owner], bool | None]) -> str | None:
    lives = alive(Owner(row.boot_id, row.pid, row.pid_started))
    if lives is None and now - row.heartbeat_at > SILENCE:
        return f"no sign of life from {row.host} since {row.heartbeat_at:%Y-%m-%d %H:%M:%S}Z"
    return f"its process {row.pid} on {row.host} died" if lives is False else None


def _mark(connection: Connection, run_id: int, now: datetime, why: str) -> Run | None:
    lost = (
        update(runs)
        .where(runs.c.id == run_id, runs.c.outcome.is_(None))
        .values(outcome=Outcome.LOST, finished_at=now, error=why)
        .returning(runs)
    )
    row = connection.execute(lost).one_or_none()
    return run_of(row) if row else None
