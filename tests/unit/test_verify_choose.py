"""Which backups are verified next."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from maint.tasks.verify.choose import Candidate, next_ones

NOW = datetime(2026, 11, 20, 4, tzinfo=UTC)


def backup(
    days: float, *, database: str = "shop", repository: str = "local", verified: float | None = None
) -> Candidate:
    at = NOW - timedelta(days=days)
    seen = None if verified is None else NOW - timedelta(days=verified)
    return Candidate(repository, "main", database, f"{at:%Y%m%dT%H%M%SZ}-0000", at, seen)


def days(chosen: list[Candidate]) -> list[tuple[str, float]]:
    return [(one.database, (NOW - one.created_at) / timedelta(days=1)) for one in chosen]


def test_the_newest_of_each_database_first_then_old_ones() -> None:
    candidates = [backup(n, database=name) for name in ("shop", "ledger") for n in (1, 2, 40)]
    assert days(next_ones(candidates, old=1, now=NOW)) == [
        ("shop", 1),
        ("ledger", 1),
        ("shop", 40),
        ("ledger", 40),
    ]


def test_age_classes_take_turns() -> None:
    candidates = [backup(n) for n in (1, 2, 3, 10, 11, 40, 41, 400)]
    taken = []
    for run in range(7):
        now = NOW + timedelta(hours=run)
        for one in next_ones(candidates, old=1, now=now):
            taken.append(one)
            candidates[candidates.index(one)] = replace(one, verified_at=now)
    assert [round(age) for _, age in days(taken)] == [1, 400, 40, 10, 2, 41, 11, 3]


def test_repositories_take_turns() -> None:
    old = [backup(8, repository="local", verified=1), backup(8, repository="offsite", verified=6)]
    new = [backup(1, repository="local"), backup(1, repository="offsite")]
    assert next_ones(old + new, old=0, now=NOW)[0].repository == "offsite"


def test_behind_a_newest_one_that_is_broken_comes_the_next() -> None:
    candidates = [replace(backup(1), broken=True), backup(2), backup(3)]
    assert days(next_ones(candidates, old=0, now=NOW)) == [("shop", 1), ("shop", 2)]


def test_when_nothing_waits_the_one_that_was_verified_longest_ago() -> None:
    candidates = [backup(1, verified=0.5), backup(8, verified=9), backup(40, verified=3)]
    assert days(next_ones(candidates, old=1, now=NOW)) == [("shop", 8)]
    assert days(next_ones(candidates, old=0, now=NOW)) == [("shop", 1)]


ages = st.lists(st.integers(0, 2000), min_size=1, max_size=12, unique=True)


@settings(deadline=None)
@given(
    databases=st.dictionaries(st.sampled_from("abc"), ages, min_size=1), old=st.integers(0, 3), runs=st.integers(1, 15)
)
def test_never_the_same_twice_while_others_wait(databases: dict[str, list[int]], old: int, runs: int) -> None:
    candidates = {c.key: c for name, of in databases.items() for n in of for c in [backup(n, database=name)]}
    times = dict.fromkeys(candidates, 0)
    for run in range(runs):
        now = NOW + timedelta(days=run)
        chosen = next_ones(candidates.values(), old=old, now=now)
        assert len({one.key for one in chosen}) == len(chosen)
        for name, of in databases.items():
            mine = [one for one in chosen if one.database == name]
            assert 1 <= len(mine) <= 1 + old, "every database has its turn in every run"
            newest = backup(min(of), database=name).key
            assert times[newest] or mine[0].key == newest, "the newest first"
        before = dict(times)
        for one in chosen:
            waiting = [
                c.key for c in candidates.values() if c.database == one.database and before[c.key] < before[one.key]
            ]
            assert not (set(waiting) - {c.key for c in chosen}) or old == 0, f"{one.key} again while {waiting} wait"
            times[one.key] += 1
            candidates[one.key] = replace(one, verified_at=now)
