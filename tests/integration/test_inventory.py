"""The inventory, from real repositories: a folder, and a versioned bucket with locks."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from support.backups import OWNER, T0, Cache, put, store
from support.s3 import Store

from maint.backups import inventory, prune, records
from maint.backups.inventory import Inventory
from maint.backups.paths import Place
from maint.config.model import Keep, RepositoryConfig
from maint.errors import HistoryError, Locked, NotFound, RepositoryError
from maint.model import Trust
from maint.repository import Repository, open_repository

NIGHT = timedelta(days=1)
Make = Callable[..., Repository]


@pytest.fixture
def local(tmp_path: Path) -> Repository:
    return open_repository(RepositoryConfig(name="local", url=f"file://{tmp_path / 'repository'}"))


@pytest.fixture
def versioned(moto: Store) -> Repository:
    bucket = moto.bucket()
    moto.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return open_repository(moto.config(bucket))


@pytest.fixture
def lockable(moto: Store) -> Make:
    bucket = moto.bucket(ObjectLockEnabledForBucket=True)

    def make(**options: object) -> Repository:
        return open_repository(moto.config(bucket, **options))

    return make


def load(*repositories: Repository, cache: Cache | None = None) -> Inventory:
    return inventory.load(repositories, cache=cache)


def one(*repositories: Repository) -> inventory.Backup:
    (found,) = load(*repositories).backups
    return found


def proof(place: Place, result: Trust, at: datetime, **more: object) -> records.Proof:
    return records.Proof(place.id, result, at, 47.0, ("everything",), **more)  # type: ignore[arg-type]


def names(repository: Repository) -> list[str]:
    return [entry.path for entry in repository.list() if not entry.hidden]


# -- what is listed ----------------------------------------------------------------------------------------


def test_backups_newest_first_with_what_their_manifest_says(local: Repository) -> None:
    store(local, T0 - NIGHT)
    store(local, T0, database='sh/op "ü"')
    first, second = load(local).backups
    assert (first.database, first.id, first.trust) == ('sh/op "ü"', "20261120T020000Z-0000", Trust.STORED)
    assert (first.summary.rows, first.summary.job, first.repository) == (3, "backup", "local")
    assert second.created_at == T0 - NIGHT


def test_without_a_manifest_it_is_no_backup(local: Repository) -> None:
    place = store(local, manifest=False)
    found = load(local)
    assert found.backups == ()
    assert [(remnant.place, remnant.reason) for remnant in found.remnants] == [(place, "no manifest: unfinished")]


@pytest.mark.parametrize("text", ["", "{", '{"maint": 2}', "[]", '{"maint": 1, "id": "x"}'])
def test_an_unreadable_manifest_is_no_backup(local: Repository, text: str) -> None:
    place = store(local)
    put(local, place / "manifest.json", text.encode())
    found = load(local)
    assert found.backups == ()
    assert "not a manifest" in found.remnants[0].reason


def test_a_manifest_that_was_copied_elsewhere_is_no_backup(local: Repository) -> None:
    place = store(local)
    copy = replace(place, database="other")
    put(local, copy / "manifest.json", records.get(local, place / "manifest.json"))
    assert load(local).remnants[0].reason == f"its manifest is that of main/shop {place.id}"


def test_a_missing_or_cut_file_is_damage(local: Repository, tmp_path: Path) -> None:
    place = store(local)
    dump = tmp_path / "repository" / (place / "dump.000")
    size = dump.stat().st_size
    dump.write_bytes(dump.read_bytes()[:5])
    assert (one(local).trust, one(local).reason) == (Trust.DAMAGED, f"dump.000: 5 of {size} bytes")
    dump.unlink()
    assert (one(local).trust, one(local).reason) == (Trust.DAMAGED, "dump.000: missing")
    assert not one(local).is_good


def test_objects_of_others_are_counted_apart(local: Repository) -> None:
    store(local)
    put(local, "photos/2026/cat.jpg", b"meow")
    put(local, "main/shop/notes.txt", b"!")
    (foreign,) = load(local).foreign
    assert (foreign.objects, foreign.size_bytes) == (2, 5)
    assert len(load(local).backups) == 1


def test_a_repository_that_cannot_be_read_hides_nothing_of_the_others(local: Repository, tmp_path: Path) -> None:
    store(local)
    missing = open_repository(RepositoryConfig(name="offsite", url=f"file://{tmp_path}/no/mount"))
    found = load(missing, local)
    assert len(found.backups) == 1
    assert isinstance(found.unavailable["offsite"], RepositoryError)


# -- trust and pins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ("", Trust.STORED),
        ("checked", Trust.CHECKED),
        ("proven checked", Trust.PROVEN),
        ("restored checked", Trust.RESTORED),
        ("proven damaged", Trust.DAMAGED),
        ("proven damaged checked", Trust.CHECKED),
        ("damaged checked restored checked", Trust.RESTORED),
    ],
)
def test_trust_is_the_best_since_the_last_damage(local: Repository, results: str, expected: Trust) -> None:
    place = store(local)
    for n, result in enumerate(results.split()):
        records.prove(local, place, proof(place, Trust(result), T0 + n * NIGHT, reason="why" if n else None))
    assert one(local).trust is expected


def test_damaged_wins_within_one_second(local: Repository) -> None:
    place = store(local)
    for result in (Trust.PROVEN, Trust.DAMAGED, Trust.CHECKED):
        records.prove(local, place, proof(place, result, T0))
    assert one(local).trust is Trust.DAMAGED


def test_a_record_tells_seconds_and_reason(local: Repository) -> None:
    place = store(local)
    records.prove(local, place, proof(place, Trust.RESTORED, T0 + NIGHT, reason="1 view not compared"))
    found = one(local)
    assert (found.trust_at, found.trust_seconds, found.reason) == (T0 + NIGHT, 47.0, "1 view not compared")


def test_a_record_that_is_no_json_counts_by_its_name(local: Repository) -> None:
    place = store(local)
    put(local, place / "proof/20261120T030000Z-damaged.json", b"oops")
    put(local, place / "proof/20269999T030000Z-proven.json", b"{}")
    assert (one(local).trust, one(local).reason) == (Trust.DAMAGED, None)


def test_pin_and_unpin(local: Repository) -> None:
    place = store(local)
    records.pin(local, place, "before 4.2", at=T0)
    assert one(local).pinned == "before 4.2"
    records.unpin(local, place)
    assert one(local).pinned is None


# -- the cache ---------------------------------------------------------------------------------------------


def test_each_object_is_read_once(local: Repository) -> None:
    cache = Cache()
    place = store(local)
    first = load(local, cache=cache)
    assert cache.remembered == [place / "manifest.json"]
    assert load(local, cache=cache) == first
    assert cache.remembered == [place / "manifest.json"]


def test_a_changed_object_is_read_again(local: Repository) -> None:
    cache = Cache()
    place = store(local)
    records.pin(local, place, "one", at=T0)
    load(local, cache=cache)
    records.pin(local, place, "two", at=T0)
    assert load(local, cache=cache).backups[0].pinned == "two"


def test_only_the_listing_is_believed_for_existence(local: Repository) -> None:
    cache = Cache()
    place = store(local)
    backup = load(local, cache=cache).backups[0]
    local.delete(place / "manifest.json")
    assert load(local, cache=cache).backups == ()
    assert cache.found == {}
    with pytest.raises(NotFound):
        inventory.fresh(local, backup)


def test_a_broken_cache_is_done_without(local: Repository) -> None:
    def broken() -> None:
        raise HistoryError("locked")

    store(local)
    assert len(load(local, cache=Cache(broken)).backups) == 1


# -- several installations ---------------------------------------------------------------------------------


def test_two_installations_at_one_server_are_found(local: Repository) -> None:
    store(local, T0)
    store(local, T0 - NIGHT, mark="0001", installation="other", host="there")
    (finding,) = inventory.rivals(load(local).backups)
    assert finding.message == (
        "two installations write backups of server main to local: other (on there) and test (on here)"
    )


def test_a_replaced_installation_is_no_rival(local: Repository) -> None:
    store(local, T0)
    store(local, T0 - 8 * NIGHT, installation="old machine")
    store(local, T0, server="other", installation="other")
    assert inventory.rivals(load(local).backups) == []


# -- deleting ----------------------------------------------------------------------------------------------


def test_removed_is_what_the_manifest_lists_and_nothing_else(local: Repository) -> None:
    kept = store(local, T0)
    place = store(local, T0 - NIGHT)
    records.pin(local, place, "x", at=T0)
    records.prove(local, place, proof(place, Trust.CHECKED, T0))
    put(local, place / "somebody-s.txt", b"not mine")
    before = {path for path in names(local) if path.startswith(kept.prefix)}
    assert prune.remove(local, load(local).backups[1]) > 0
    assert set(names(local)) == before | {place / "somebody-s.txt"}


def test_removing_what_is_gone_is_done(local: Repository) -> None:
    store(local)
    backup = one(local)
    prune.remove(local, backup)
    assert prune.remove(local, backup) == 0


class Dying:
    """A repository whose process dies at the k-th deletion."""

    def __init__(self, repository: Repository, k: int) -> None:
        self._repository = repository
        self._left = k

    def __getattr__(self, name: str) -> object:
        return getattr(self._repository, name)

    def delete(self, path: str, *, version: str | None = None) -> None:
        if self._left == 0:
            raise KeyboardInterrupt
        self._left -= 1
        self._repository.delete(path, version=version)


@pytest.mark.parametrize("k", range(5))
def test_an_interrupted_deletion_is_finished_by_the_next_sweep(local: Repository, k: int) -> None:
    place = store(local)
    records.prove(local, place, proof(place, Trust.CHECKED, T0))
    with pytest.raises(KeyboardInterrupt):
        prune.remove(Dying(local, k), one(local))  # type: ignore[arg-type]
    if k == 0:
        assert one(local).is_good
        assert records.sweep(local, installation="test", now=datetime.now(UTC)) == []
    else:
        assert load(local).backups == ()
        later = datetime.now(UTC) + 3 * NIGHT
        assert records.sweep(local, installation="test", now=later) == [place.prefix]
        assert names(local) == []


def test_sweep_leaves_others_the_living_and_the_silent(local: Repository) -> None:
    now = datetime.now(UTC)
    me = records.Owner.current("test", 1)
    for mark, who in (("0001", me), ("0002", replace(OWNER, installation="other")), ("0003", OWNER)):
        records.begin(local, replace(store(local, mark=mark, manifest=False)), who)
    put(local, "main/shop/20261120T020000Z-0004/dump.000", b"nobody's")
    assert records.sweep(local, installation="test", now=now) == []  # the third may live on another machine
    assert records.sweep(local, installation="test", now=now + 3 * NIGHT) == ["main/shop/20261120T020000Z-0003/"]


def test_sweep_clears_what_a_dead_process_of_this_machine_left_at_once(local: Repository) -> None:
    me = records.Owner.current("test", 1)
    head, _, start = me.process.rpartition("-")
    place = store(local, manifest=False)
    records.begin(local, place, replace(me, process=f"{head}-{int(start) + 1}"))  # its pid is somebody else's by now
    assert records.sweep(local, installation="test", now=datetime.now(UTC)) == [place.prefix]


def test_sweep_never_touches_a_backup(local: Repository) -> None:
    store(local)
    assert records.sweep(local, installation="test", now=datetime.now(UTC) + 30 * NIGHT) == []
    assert one(local).is_good


class Late:
    """A repository whose first listing was made just before a backup got its manifest."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._listings = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._repository, name)

    def list(self, prefix: str = "") -> object:
        self._listings += 1
        found = self._repository.list(prefix)
        return found if self._listings > 1 else (e for e in found if not e.path.endswith("manifest.json"))


def test_sweep_looks_again_before_it_deletes(local: Repository) -> None:
    store(local)
    later = datetime.now(UTC) + 3 * NIGHT
    assert records.sweep(Late(local), installation="test", now=later) == []  # type: ignore[arg-type]
    assert one(local).is_good


# -- versions, delete markers and locks --------------------------------------------------------------------


def test_hidden_by_a_delete_marker_is_seen_and_not_counted(versioned: Repository, moto: Store) -> None:
    place = store(versioned)
    client = moto.client()
    bucket, _, prefix = versioned.url_of(place / "manifest.json").removeprefix("s3://").partition("/")
    client.delete_object(Bucket=bucket, Key=prefix)
    found = one(versioned)
    assert found.hidden
    assert not found.is_good
    plan = prune.plan(versioned, [found], Keep(last=1), zone=ZoneInfo("UTC"), now=T0 + NIGHT)
    assert plan.verdicts[0].reason == "hidden by a delete marker"


def test_a_file_written_over_is_read_in_its_version(versioned: Repository) -> None:
    place = store(versioned)
    put(versioned, place / "dump.000", b"somebody wrote over it")
    assert one(versioned).is_good


def test_removed_is_every_version_of_the_manifest(versioned: Repository) -> None:
    store(versioned)
    prune.remove(versioned, one(versioned))
    assert list(versioned.list()) == []


def test_locked_is_kept_and_no_error(lockable: Make) -> None:
    repository = lockable(lock="30d")
    store(repository, T0 - NIGHT)
    store(repository, T0)
    backups = load(repository).backups
    now = datetime.now(UTC)
    plan = prune.plan(repository, backups, Keep(last=1), zone=ZoneInfo("UTC"), now=now)
    assert plan.removed == ()
    assert plan.verdicts[1].reason.startswith("locked until ")
    with pytest.raises(Locked):
        prune.remove(repository, backups[1])
    assert len(load(repository).backups) == 2


def test_a_locked_pin_can_be_superseded(lockable: Make) -> None:
    repository = lockable(lock="30d")
    place = store(repository)
    records.pin(repository, place, "before 4.2", at=T0)
    records.unpin(repository, place)
    assert one(repository).pinned is None
