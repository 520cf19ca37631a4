"""Whole backups into a bucket with versions, and with object lock."""

from collections.abc import Callable
from typing import Any

import pytest
from support import aftermath
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with
from support.s3 import Proxy, Store, says

from maint.backups import inventory
from maint.config.model import RepositoryConfig
from maint.repository import open_repository, s3_client

DAY = "24h"


def versioned(store: Store, **options: Any) -> str:
    bucket = store.bucket(**options)
    store.client().put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def stored(store: Store, config: RepositoryConfig) -> list[tuple[str, str]]:
    """Return key and version of everything in the bucket, delete markers too."""
    found = store.client().list_object_versions(Bucket=config.url.split("/")[2])
    return [(one["Key"], one["VersionId"]) for kind in ("Versions", "DeleteMarkers") for one in found.get(kind, ())]


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    found = configured()
    found.job("backup", "retries = 0\n[options]\nkeep = { last = 1 }\n")
    return found


def test_the_manifest_records_versions_and_they_are_what_is_read(moto: Store, maint: Maint, sample: Database) -> None:
    offsite = moto.config(versioned(moto))
    write_with(maint, sample, offsite)
    assert maint("run", "backup").code == 0
    (backup,) = aftermath.whole_backups(offsite)
    manifest = inventory.fresh(open_repository(offsite), backup)
    assert {(f"some/prefix/{backup.place / file.name}", file.version) for file in manifest.files} < set(
        stored(moto, offsite)
    )
    client, bucket = moto.client(), offsite.url.split("/")[2]
    client.put_object(Bucket=bucket, Key=f"some/prefix/{backup.place / 'dump.000'}", Body=b"written over it")
    client.delete_object(Bucket=bucket, Key=f"some/prefix/{backup.place / 'RESTORE.md'}")
    assert aftermath.ids(offsite) == [backup.id]  # every digest
    assert maint("backups", "check", backup.id).code == 0
    (shown,) = maint("backups", "--json").json
    assert shown["trust"] == "checked"


def test_retention_deletes_versions(moto: Store, maint: Maint, sample: Database) -> None:
    offsite = moto.config(versioned(moto))
    write_with(maint, sample, offsite)
    for _ in range(3):
        assert maint("run", "backup").code == 0
    (backup,) = aftermath.whole_backups(offsite)
    assert all(backup.place.prefix in key for key, _ in stored(moto, offsite))
    aftermath.nothing_half(offsite)


def test_a_lock_that_cannot_be_asked_for_stops_no_backup(
    before_moto: Proxy, maint: Maint, sample: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    offsite = before_moto.config(versioned(before_moto.store))
    write_with(maint, sample, offsite)
    assert maint("run", "backup").code == 0
    before_moto.plan("head", says(503, "SlowDown"))  # the first one: when deletions are planned
    answer = maint("run", "backup", "--json")
    assert answer.code == 3, answer
    (finding,) = answer.json["findings"]
    assert finding["message"].startswith("retention could not look into ")
    assert len(answer.json["backups"]) == 1
    assert maint("run", "backup").code == 0
    assert len(aftermath.whole_backups(before_moto.store.config(offsite.url.split("/")[2]))) == 1


def test_a_backup_hidden_by_delete_markers_is_shown_as_such(moto: Store, maint: Maint, sample: Database) -> None:
    offsite = moto.config(versioned(moto))
    write_with(maint, sample, offsite)
    assert maint("run", "backup").code == 0
    client, bucket = moto.client(), offsite.url.split("/")[2]
    for key, _ in stored(moto, offsite):
        client.delete_object(Bucket=bucket, Key=key)
    assert "hidden" in maint("backups").out
    hidden = aftermath.runs(maint)
    assert len(hidden) == 1
    assert maint("run", "backup").code == 0
    kept = [backup for backup in inventory.load([open_repository(offsite)]).backups if backup.hidden]
    assert len(kept) == 1  # retention touches nothing that it cannot explain


def test_locked_backups_are_kept_without_an_error(moto: Store, maint: Maint, sample: Database) -> None:
    bucket = moto.bucket(ObjectLockEnabledForBucket=True)
    offsite = moto.config(bucket, lock=DAY)
    write_with(maint, sample, offsite)
    for _ in range(2):
        answer = maint("run", "backup")
        assert answer.code == 0, answer.out + answer.err
    assert len(aftermath.ids(offsite)) == 2
    answer = maint("backups", "prune", "--confirm")
    assert answer.code == 0, answer.err
    assert "locked until" in answer.out
    assert len(aftermath.ids(offsite)) == 2
    client = moto.client()
    for key, version in stored(moto, offsite):
        assert client.head_object(Bucket=bucket, Key=key, VersionId=version)["ObjectLockMode"] == "GOVERNANCE", key


def test_what_a_lock_holds_of_a_failed_backup_stands_in_nobodys_way(
    before_moto: Proxy, maint: Maint, sample: Database
) -> None:
    offsite = before_moto.config(before_moto.store.bucket(ObjectLockEnabledForBucket=True), lock=DAY)
    write_with(maint, sample, offsite)
    before_moto.plan("put", says(403, "AccessDenied"), 1000, skip=3)
    answer = maint("run", "backup", "--json")
    (report,) = answer.json_lines
    assert (answer.code, report["outcome"], report["backups"]) == (1, "failed", [])
    assert "put object" in report["error"]
    assert "stays behind" in answer.err
    before_moto.heal()
    assert maint("backups", "--json").json == []
    for _ in range(2):
        answer = maint("run", "backup")
        assert answer.code == 0, answer.out + answer.err
    assert len(maint("backups", "--json").json) == 2
