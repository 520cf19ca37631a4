"""Promises against what the backups show: `rpo`, `proof` and `rto`, judged for one database at a time. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from math import isfinite

from maint.backups.inventory import Backup
from maint.config.model import Objectives
from maint.model import Trust

#: the share of a limit beyond which it is about to break
NEAR = 0.8
#: over so long the longest gap is looked for
WINDOW = timedelta(days=30)
#: of the trend
MONTH = timedelta(days=30)
#: a forecast beyond it is none
_FORESEEABLE = timedelta(days=3650)


class State(StrEnum):
    """Worst first."""

    BROKEN = "broken"
    NEAR = "about to break"
    UNMEASURED = "not measured"
    KEPT = "kept"


@dataclass(frozen=True, slots=True)
class Measure:
    """One promise, and how it stands."""

    name: str  #: "rpo", "proof", "rto"
    limit: timedelta
    state: State
    value: timedelta | None = None  #: what was measured; None: there is nothing to measure
    breaks_at: datetime | None = None  #: when the limit is or was passed, as far as that can be told
    backup: str | None = None  #: the id of the one that decides

    @property
    def share(self) -> float:
        """How much of the limit is used up."""
        return float("inf") if self.value is None else self.value / self.limit


@dataclass(frozen=True, slots=True)
class Trend:
    """How the time of a restore develops, by least squares over the snapshots that were restored."""

    seconds_per_month: float
    forecast: float  #: seconds a month from now


@dataclass(frozen=True, slots=True)
class Standing:
    """How one database stands to its promises."""

    server: str
    database: str
    measures: tuple[Measure, ...]  #: only of what was promised
    longest_gap: timedelta | None = None  #: between good backups that are still there, in the last 30 days, up to now
    trend: Trend | None = None


@dataclass(frozen=True, slots=True)
class Due:
    """When the schedules bring the next one; None: never by themselves."""

    backup: datetime | None = None
    proof: datetime | None = None


_NOT_DUE = Due()


def evaluate(
    server: str,
    database: str,
    backups: Sequence[Backup],
    objectives: Objectives,
    *,
    now: datetime,
    due: Due = _NOT_DUE,
) -> Standing:
    """Judge one database by its backups, those of all repositories.

    Ages count from the snapshot. Over 80 % of a limit a promise is about to break, unless its schedule comes before
    the limit does. `rto` is the measured restore of the newest snapshot that has one: what would be restored now.
    """
    good = sorted((b for b in backups if b.is_good), key=lambda b: b.created_at)
    proven = [b for b in good if b.trust is Trust.PROVEN]
    restored = sorted((b for b in good if b.trust_seconds is not None and b.trust >= Trust.RESTORED), key=_measured)
    trend = _trend(restored, now)
    measures = []
    if objectives.rpo is not None:
        measures.append(_of_age("rpo", good, objectives.rpo, now, due.backup))
    if objectives.proof is not None:
        measures.append(_of_age("proof", proven, objectives.proof, now, due.proof))
    if objectives.rto is not None:
        measures.append(_of_restore(restored, objectives.rto, trend, now))
    return Standing(server, database, tuple(measures), _longest_gap(good, now), trend)


def _measured(backup: Backup) -> tuple[datetime, datetime]:
    return backup.created_at, backup.trust_at or backup.created_at


def _of_age(name: str, backups: Sequence[Backup], limit: timedelta, now: datetime, due: datetime | None) -> Measure:
    if not backups:  # without any backup the promise is broken; without a proof nobody has looked
        return Measure(name, limit, State.BROKEN if name == "rpo" else State.UNMEASURED)
    newest = backups[-1]
    age = max(now - newest.created_at, timedelta(0))
    breaks_at = newest.created_at + limit
    if age > limit:
        state = State.BROKEN
    elif age > NEAR * limit and (due is None or due >= breaks_at):
        state = State.NEAR
    else:
        state = State.KEPT
    return Measure(name, limit, state, age, breaks_at, newest.id)


def _of_restore(restored: Sequence[Backup], limit: timedelta, trend: Trend | None, now: datetime) -> Measure:
    if not restored:
        return Measure("rto", limit, State.UNMEASURED)
    value = timedelta(seconds=restored[-1].trust_seconds or 0)
    state = State.BROKEN if value > limit else State.NEAR if value > NEAR * limit else State.KEPT
    breaks_at = _reaches(value, limit, trend, now) if state is not State.BROKEN else None
    return Measure("rto", limit, state, value, breaks_at, restored[-1].id)


def _reaches(value: timedelta, limit: timedelta, trend: Trend | None, now: datetime) -> datetime | None:
    """Return when the restore takes as long as it may, if it goes on as it did."""
    if trend is None or trend.seconds_per_month <= 0:
        return None
    months = (limit - value).total_seconds() / trend.seconds_per_month
    return now + months * MONTH if months <= _FORESEEABLE / MONTH else None


def _trend(restored: Sequence[Backup], now: datetime) -> Trend | None:
    if not restored:
        return None
    ages = [(backup.created_at - now) / MONTH for backup in restored]
    seconds = [backup.trust_seconds or 0.0 for backup in restored]
    middle, mean = sum(ages) / len(ages), sum(seconds) / len(seconds)
    spread = sum((age - middle) ** 2 for age in ages)
    if max(ages) - min(ages) < timedelta(days=1) / MONTH:  # of one day: no development
        return None
    slope = sum((age - middle) * (took - mean) for age, took in zip(ages, seconds, strict=True)) / spread
    forecast = max(seconds[-1] + slope, 0.0)
    return Trend(slope, forecast) if isfinite(slope) else None


def _longest_gap(good: Sequence[Backup], now: datetime) -> timedelta | None:
    """Return the longest time without a good backup; of one that began before the window all of it counts.

    What retention has thinned out is a gap as well: nobody can go back into it.
    """
    instants = [*sorted({backup.created_at for backup in good if backup.created_at <= now}), now]
    return max((later - sooner for sooner, later in pairwise(instants) if later > now - WINDOW), default=None)


def worst(standings: Sequence[Standing]) -> Iterator[tuple[Standing, Measure, int]]:
    """Yield of each promise the database that stands worst, and how many stand in the same state."""
    for name in ("rpo", "proof", "rto"):
        found = [(of, one) for of in standings for one in of.measures if one.name == name]
        if found:
            standing, measure = min(found, key=lambda pair: (list(State).index(pair[1].state), -pair[1].share))
            yield standing, measure, sum(one.state is measure.state for _, one in found)
