"""Which backups stay, and why: a pure function over the backups of one database in one repository."""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

from maint.config.model import Keep
from maint.config.values import format_duration
from maint.model import Finding, Severity, Trust


@dataclass(frozen=True, slots=True)
class Group:
    """What retention works on at a time: nothing outside of it counts or is touched."""

    installation: str
    job: str
    server: str
    database: str
    repository: str


@dataclass(frozen=True, slots=True)
class Candidate:
    """A backup as retention sees it."""

    id: str
    group: Group
    created_at: datetime  #: of the snapshot, UTC
    trust: Trust = Trust.STORED
    hidden: bool = False  #: under a delete marker: readers do not see it
    pinned: str | None = None  #: the reason
    locked_until: datetime | None = None
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one backup."""

    backup: Candidate
    keep: bool
    reasons: tuple[str, ...]

    @property
    def reason(self) -> str:
        return "; ".join(self.reasons)


@dataclass(frozen=True, slots=True)
class Decision:
    """Every backup of a group, newest first, each kept or removed."""

    verdicts: tuple[Verdict, ...]
    finding: Finding | None = None  #: why nothing is removed although something would be

    @property
    def kept(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.keep)

    @property
    def removed(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if not verdict.keep)


def decide(
    backups: Sequence[Candidate], keep: Keep, *, zone: ZoneInfo, now: datetime, max_delete: int | None = None
) -> Decision:
    """Decide over the backups of one group. Raises `ValueError` if they are of several, or an id comes twice.

    Only good ones count toward `keep`: visible, not damaged, not from the future (of a clock that was wrong). The
    newest good, the newest proven, pinned, locked, hidden and future ones stay in any case. A damaged one goes once
    a newer one is good, unless it is all there is of an hour, day, week, month or year that `keep` asks for: part
    of it may still be worth having. More removals than `max_delete` are none, and a finding.
    """
    _check(backups)
    newest_first = sorted(backups, key=_order, reverse=True)
    good = [backup for backup in newest_first if _counts(backup, now)]
    damaged = [backup for backup in newest_first if backup.trust is Trust.DAMAGED]
    policy = _Policy(keep, zone, good, damaged)
    verdicts = tuple(_judge(backup, policy, now) for backup in newest_first)
    return _limited(Decision(verdicts), max_delete)


def _check(backups: Sequence[Candidate]) -> None:
    if len({backup.group for backup in backups}) > 1:
        raise ValueError("retention decides over one installation, job, server, database and repository at a time")
    if len({backup.id for backup in backups}) < len(backups):
        raise ValueError("a backup comes twice")


def _order(backup: Candidate) -> tuple[datetime, str]:
    return backup.created_at, backup.id


def _counts(backup: Candidate, now: datetime) -> bool:
    return backup.trust > Trust.DAMAGED and not backup.hidden and backup.created_at <= now


@dataclass(frozen=True, slots=True)
class _Class:
    """One age class: how many periods it keeps, and which period an instant lies in."""

    name: str
    count: int
    period: str  #: as in "its week is kept by …"
    bucket: Callable[[datetime], Hashable]


def _classes(keep: Keep, zone: ZoneInfo) -> list[_Class]:
    """Return the classes that are asked for, the shortest period first."""
    classes = (
        _Class("hourly", keep.hourly, "hour", partial(_hour, zone)),
        _Class("daily", keep.daily, "day", lambda at: at.astimezone(zone).date()),
        _Class("weekly", keep.weekly, "week", lambda at: tuple(at.astimezone(zone).isocalendar())[:2]),
        _Class("monthly", keep.monthly, "month", lambda at: f"{at.astimezone(zone):%Y-%m}"),
        _Class("yearly", keep.yearly, "year", lambda at: at.astimezone(zone).year),
    )
    return [one for one in classes if one.count]


def _hour(zone: ZoneInfo, at: datetime) -> Hashable:
    local = at.astimezone(zone)
    return local.date(), local.hour, local.fold  # the hour that comes twice in autumn is two hours


class _Policy:
    """`keep` applied to the good backups, newest first."""

    def __init__(self, keep: Keep, zone: ZoneInfo, good: Sequence[Candidate], damaged: Sequence[Candidate]) -> None:
        self.keep = keep
        self.good = good
        self.newest = good[0] if good else None
        self.proven = next((backup for backup in good if backup.trust is Trust.PROVEN), None)
        self.classes = _classes(keep, zone)
        #: for each class: bucket -> the backup that stands for it, newest first
        self.chosen = {one.name: _fill(one, good, one.count) for one in self.classes}
        #: the newest damaged one of each bucket
        self._spare = {one.name: _fill(one, damaged, len(damaged)) for one in self.classes}

    def reasons(self, backup: Candidate) -> Iterator[str]:
        """Say what keeps this good backup."""
        for n, kept in enumerate(self.good[: self.keep.last], 1):
            if kept is backup:
                yield f"last {n} of {self.keep.last}"
        for one in self.classes:
            for n, kept in enumerate(self.chosen[one.name].values(), 1):
                if kept is backup:
                    yield f"{one.name} {n} of {one.count}"
        if self._is_within(backup):
            yield self._within

    def gaps(self, backup: Candidate) -> Iterator[str]:
        """Say what this damaged backup is all there is of."""
        for one in self.classes:
            bucket = one.bucket(backup.created_at)
            is_gap = bucket not in self.chosen[one.name] and not self._is_beyond(backup, one)
            if is_gap and self._spare[one.name][bucket] is backup:
                yield f"all there is of its {one.period}"
        if self._is_within(backup):
            yield self._within

    def against(self, backup: Candidate) -> tuple[str, ...]:
        """Say why nothing keeps this backup: which classes it is beyond, and who stands for it in the next."""
        beyond = [f"last {self.keep.last}"] if self.keep.last else []
        beyond += [self._within] if self.keep.within else []
        for one in self.classes:
            kept = self.chosen[one.name].get(one.bucket(backup.created_at))
            if kept is not None:
                return *_beyond(beyond), f"its {one.period} is kept by {self._short(kept)}"
            beyond.append(f"{one.name} {one.count}")
        return _beyond(beyond)

    @property
    def _within(self) -> str:
        return f"within {format_duration(self.keep.within)}" if self.keep.within else ""

    def _is_within(self, backup: Candidate) -> bool:
        if self.newest is None or not self.keep.within:
            return False
        return self.newest.created_at - backup.created_at <= self.keep.within

    def _is_beyond(self, backup: Candidate, one: _Class) -> bool:
        chosen = list(self.chosen[one.name].values())
        return len(chosen) == one.count and _order(backup) < _order(chosen[-1])

    def _short(self, backup: Candidate) -> str:
        """Name a backup by its date if there is no other one of it."""
        date = backup.id[:8]
        return date if sum(other.id.startswith(date) for other in self.good) == 1 else backup.id


def _fill(one: _Class, backups: Sequence[Candidate], count: int) -> dict[Hashable, Candidate]:
    """Return the newest backup of each of the newest `count` buckets that have one."""
    chosen: dict[Hashable, Candidate] = {}
    for backup in backups:
        if len(chosen) == count:
            break
        chosen.setdefault(one.bucket(backup.created_at), backup)
    return chosen


def _beyond(names: Sequence[str]) -> tuple[str, ...]:
    return (f"beyond {', '.join(names)}",) if names else ()


def _judge(backup: Candidate, policy: _Policy, now: datetime) -> Verdict:
    reasons = [*_protections(backup, policy, now)]
    if _counts(backup, now):
        reasons += policy.reasons(backup)
    elif backup.trust is Trust.DAMAGED:
        reasons += _damaged(backup, policy)
    if reasons:
        return Verdict(backup, True, tuple(reasons))
    if backup.trust is Trust.DAMAGED:
        return Verdict(backup, False, ("damaged, and a newer one is good",))
    return Verdict(backup, False, policy.against(backup))


def _protections(backup: Candidate, policy: _Policy, now: datetime) -> Iterator[str]:
    """Say what no `keep` can take away."""
    if backup is policy.newest:
        yield "newest good"
    if backup is policy.proven:
        yield "newest proven"
    if backup.pinned is not None:
        yield f"pinned: {backup.pinned}" if backup.pinned else "pinned"
    if backup.locked_until is not None and backup.locked_until > now:
        yield f"locked until {backup.locked_until.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    if backup.created_at > now:
        yield "from the future: a clock was wrong"
    if backup.hidden:
        yield "hidden by a delete marker"


def _damaged(backup: Candidate, policy: _Policy) -> Iterator[str]:
    if policy.newest is None or _order(policy.newest) < _order(backup):
        yield "damaged, but nothing newer is good"
    else:
        yield from (f"damaged, but {gap}" for gap in list(policy.gaps(backup))[:1])


def _limited(decision: Decision, max_delete: int | None) -> Decision:
    """Remove nothing if it would be more than `max_delete`: rather an error than a wish."""
    n = len(decision.removed)
    if max_delete is None or n <= max_delete:
        return decision
    group = decision.verdicts[0].backup.group
    verdicts = tuple(
        verdict
        if verdict.keep
        else replace(verdict, keep=True, reasons=(f"{n} at once are too many", *verdict.reasons))
        for verdict in decision.verdicts
    )
    return Decision(verdicts, _too_many(group, n, max_delete))


def _too_many(group: Group, n: int, max_delete: int) -> Finding:
    return Finding(
        check="backup.prune",
        severity=Severity.WARNING,
        object=f"{group.database} in {group.repository}",
        message=f"retention would delete {n} backups of {group.database} in {group.repository} at once: none was",
        value=str(n),
        threshold=f"max_delete {max_delete}",
        fix=f"maint backups prune --job {group.job}   # look at the reasons, then add --confirm",
    )
