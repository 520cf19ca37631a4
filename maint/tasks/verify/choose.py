"""Which backups are verified next. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, zip_longest

_NEVER = datetime.min.replace(tzinfo=UTC)

#: age classes, as retention has them: up to so old
_CLASSES = (timedelta(days=7), timedelta(days=31), timedelta(days=366))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One backup in one repository."""

    repository: str
    server: str
    database: str
    id: str
    created_at: datetime
    verified_at: datetime | None = None  #: when somebody last tried to restore it
    broken: bool = False  #: the listing shows already that it is damaged

    @property
    def waits(self) -> bool:
        """Whether nobody has ever restored it."""
        return self.verified_at is None

    @property
    def key(self) -> str:
        return f"{self.repository}/{self.server}/{self.database}/{self.id}"


def next_ones(candidates: Iterable[Candidate], *, old: int, now: datetime) -> list[Candidate]:
    """Return what is verified now: the newest of each database, then `old` others of each in turn.

    None is taken a second time while another of its database waits. The newest come first.
    """
    databases: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in sorted(candidates, key=_newest_first):
        databases.setdefault((candidate.server, candidate.database), []).append(candidate)
    newest = [_newest(of) for of in databases.values()]
    others = [_others(of, taken, old, now) for of, taken in zip(databases.values(), newest, strict=True)]
    done = [of for of, some, more in zip(databases.values(), newest, others, strict=True) if not some and not more]
    in_turn = [one for row in zip_longest(*others) for one in row if one is not None]
    again = [_longest_ago(of if old else [one for one in of if one.id == of[0].id]) for of in done]
    return [*chain.from_iterable(newest), *in_turn, *again]


def _newest_first(candidate: Candidate) -> tuple[float, str, str]:
    return -candidate.created_at.timestamp(), candidate.id, candidate.repository


def _newest(of: Sequence[Candidate]) -> list[Candidate]:
    """Return the newest if nobody has restored it; behind one that is broken the next."""
    taken: list[Candidate] = []
    for id_ in dict.fromkeys(candidate.id for candidate in of):
        copies = [candidate for candidate in of if candidate.id == id_]
        if any(not copy.waits and not copy.broken for copy in copies):
            break
        waiting = [copy for copy in copies if copy.waits]
        if waiting:
            taken.append(min(waiting, key=lambda copy: (copy.broken, _last_in(of, copy.repository))))
            if not taken[-1].broken:
                break
    return taken


def _last_in(of: Sequence[Candidate], repository: str) -> datetime:
    """Return when a backup in this repository was last verified: repositories take turns."""
    return max((c.verified_at or _NEVER for c in of if c.repository == repository), default=_NEVER)


def _others(of: Sequence[Candidate], taken: Sequence[Candidate], count: int, now: datetime) -> list[Candidate]:
    """Return `count` that wait, each time of the age class whose turn was longest ago."""
    ids = {candidate.id for candidate in taken}
    waiting = [candidate for candidate in of if candidate.waits and candidate.id not in ids]
    turns: dict[int, datetime] = {}
    for candidate in of:
        kind = _class(candidate, now)
        turns[kind] = max(turns.get(kind, _NEVER), candidate.verified_at or _NEVER)
    found: list[Candidate] = []
    while waiting and len(found) < count:
        kinds = {_class(candidate, now) for candidate in waiting}
        kind = min(kinds, key=lambda kind: (turns[kind], -kind))  # the oldest class first: it has waited longest
        found.append(next(candidate for candidate in waiting if _class(candidate, now) == kind))
        turns[kind] = now
        waiting = [candidate for candidate in waiting if candidate.id != found[-1].id]
    return found


def _class(candidate: Candidate, now: datetime) -> int:
    return sum(now - candidate.created_at > limit for limit in _CLASSES)


def _longest_ago(of: Sequence[Candidate]) -> Candidate:
    return min(of, key=lambda candidate: (candidate.verified_at or _NEVER, _newest_first(candidate)))
