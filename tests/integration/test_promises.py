"""Promises, from the configuration to what runs, doctor and `maint backups` say of them."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from support.backups import store
from support.dumps import backup_job
from support.maint import Maint
from support.postgres import Database
from support.proofs import verify, verify_job

from maint.backups import records
from maint.config.model import RepositoryConfig
from maint.model import Trust
from maint.repository import open_repository

DAY = timedelta(days=1)


def test_broken_promises_are_told_and_kept_ones_are_not(
    database: Database, configured: Callable[..., Maint], open_folder: Path
) -> None:
    maint = configured(database)
    maint.environment["TMPDIR"] = str(open_folder)
    backup_job(maint)
    verify_job(maint)
    maint.add('[objectives]\nrpo = "26h"\nproof = "8d"\nrto = "2h"\n')
    now = datetime.now(UTC)
    local = open_repository(RepositoryConfig(name="local", url=f"file://{maint.repository}"), state_dir=maint.state)
    old = store(local, now - 10 * DAY, database=database.name)
    records.prove(local, old, records.Proof(old.id, Trust.PROVEN, now - 9 * DAY, 9000, ()))
    answer = maint("run", "backup")
    assert answer.code == 3, answer
    shown = maint("show", "1")
    assert f"proof of {database.name} (8d) is broken" in shown.out
    assert f"rto of {database.name} (2h) is broken" in shown.out
    assert "rpo of" not in shown.out  # the run has just kept it
    assert "maint run verify --server main" in shown.out
    answer, said = verify(maint)
    assert said["verified"][0]["result"] == "proven"
    objectives = [finding for finding in said.get("findings", ()) if finding["check"].startswith("objective.")]
    assert objectives == []
    assert "rpo 26 h: kept (" in maint("backups").out
    assert " · proof 8 d: kept (" in maint("backups").out


def test_doctor_fails_what_the_schedules_cannot_keep(database: Database, configured: Callable[..., Maint]) -> None:
    maint = configured(database)
    maint.add('[objectives]\nrpo = "26h"\nproof = "8d"\n')

    def about() -> list[tuple[str, str]]:
        lines = maint("doctor", "--json").json
        return [(line["status"], line["message"]) for line in lines if line["subject"].startswith("objectives ")]

    assert about() == [("OK", "rpo 26h, proof 8d: the schedules can keep that")]
    maint.job("verify", "enabled = false\n")
    assert about() == [("FAIL", "proof = 8d cannot be kept: no enabled job verifies them on a schedule")]
