"""The commands about backups, as they are typed."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyrage
import pytest
from support.backups import T0, put, store
from support.maint import Maint
from support.s3 import ACCESS_KEY, SECRET_KEY, Store

from maint.backups import records
from maint.config.model import RepositoryConfig
from maint.model import Trust
from maint.repository import Repository, open_repository

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)

TOML = """
installation = "test"
timezone = "Europe/Berlin"
[repository.local]
url = "file://{local}"
[repository.offsite]
url = "file://{offsite}"
"""
KEEP = """
task = "backup"
[options]
keep = { last = 2 }
"""


@pytest.fixture
def maint(configured: Callable[..., Maint]) -> Maint:
    made = configured()
    made.write(TOML.format(local=made.folder / "local", offsite=made.folder / "offsite"))
    made.job("backup", KEEP)
    return made


def repository(maint: Maint, name: str = "local") -> Repository:
    return open_repository(RepositoryConfig(name=name, url=f"file://{maint.folder / name}"))


@pytest.fixture
def local(maint: Maint) -> Repository:
    return repository(maint)


@pytest.fixture
def offsite(maint: Maint) -> Repository:
    return repository(maint, "offsite")


def ids(maint: Maint, *arguments: str) -> list[str]:
    return [row["id"] for row in maint.json("backups", *arguments)]


# -- the list ----------------------------------------------------------------------------------------------


def test_nothing_yet(maint: Maint) -> None:
    answer = maint("backups")
    assert (answer.code, answer.out) == (0, "no backups\nTo begin: maint run backup\n")
    assert maint.json("backups") == []


def test_the_table(maint: Maint, local: Repository, offsite: Repository) -> None:
    for at in (NOW - 9 * HOUR, NOW - 5 * DAY):
        place = store(local, at)
        store(offsite, at)
    proven = records.Proof(place.id, Trust.PROVEN, NOW, 47.0, ())
    for one in (local, offsite):
        records.prove(one, place, proven)
        records.pin(one, place, "before 4.2", at=NOW)
    bad = store(offsite, NOW - 19 * DAY)
    put(offsite, bad / "dump.000", b"short")
    lines = maint("backups").out.splitlines()
    assert lines[0].split() == ["id", "database", "age", "size", "trust", "where"]
    assert lines[1].split()[1:] == ["shop", "9", "h", *lines[1].split()[4:6], "stored", "local", "offsite"]
    assert "  5.0 d  " in lines[2]
    assert "proven " in lines[2]
    assert ", 0:47" in lines[2]
    assert lines[2].endswith("  local offsite  pinned: before 4.2")
    assert "damaged" in lines[3]
    assert lines[3].split("offsite")[1].strip().startswith("dump.000: 5 of ")
    assert len(lines) == 4


def test_copies_of_different_trust_have_a_line_each(maint: Maint, local: Repository, offsite: Repository) -> None:
    place = store(local)
    store(offsite)
    records.prove(offsite, place, records.Proof(place.id, Trust.CHECKED, NOW, 1, ()))
    assert [line.split()[-1] for line in maint("backups").out.splitlines()[1:]] == ["offsite", "local"]


def test_json_has_a_row_per_backup_and_repository(maint: Maint, local: Repository, offsite: Repository) -> None:
    store(local)
    store(offsite)
    rows = maint.json("backups")
    assert [row["repository"] for row in rows] == ["offsite", "local"]
    wanted = {
        "id": "20261120T020000Z-0000",
        "server": "main",
        "database": "shop",
        "kind": "database",
        "created_at": "2026-11-20T02:00:00Z",
        "finished_at": "2026-11-20T02:01:00Z",
        "trust": "stored",
        "pinned": None,
        "format": "custom",
        "encrypted": False,
    }
    assert wanted.items() <= rows[0].items()
    assert rows[0]["size_bytes"] > 0


def test_filters(maint: Maint, local: Repository, offsite: Repository) -> None:
    store(local, mark="0001")
    store(local, mark="0002", database="shop2")
    store(local, mark="0003", server="other")
    store(offsite, mark="0004")
    assert len(ids(maint)) == 4
    assert ids(maint, "--server", "other") == ["20261120T020000Z-0003"]
    assert ids(maint, "--database", "shop2") == ["20261120T020000Z-0002"]
    assert ids(maint, "--server", "main", "--database", "shop") == ["20261120T020000Z-0004", "20261120T020000Z-0001"]
    assert ids(maint, "--repository", "offsite") == ["20261120T020000Z-0004"]
    answer = maint("backups", "--repository", "nowhere")
    assert answer.code == 2
    assert "local, offsite" in answer.err


def test_a_new_machine_sees_everything(maint: Maint, local: Repository, configured: Callable[..., Maint]) -> None:
    store(local)
    other = configured(name="other")
    other.write(TOML.format(local=maint.folder / "local", offsite=maint.folder / "offsite"))
    assert ids(other) == ids(maint) == ["20261120T020000Z-0000"]
    assert not (other.state / "maint.db").exists()


def test_a_history_that_cannot_be_read_is_done_without(maint: Maint, local: Repository) -> None:
    store(local)
    assert maint("history").code == 0
    (maint.state / "maint.db").write_bytes(b"no database at all" * 1000)
    assert ids(maint) == ["20261120T020000Z-0000"]


def test_one_repository_that_cannot_be_read(maint: Maint, local: Repository) -> None:
    store(local)
    maint.add('[repository.usb]\nurl = "file:///no/such/mount/at/all"\n')
    answer = maint("backups", "--json")
    assert answer.code == 1
    assert len(answer.json) == 1
    assert json.loads(answer.err)["error"].startswith("repository usb: ")
    assert maint("backups", "--repository", "usb").code == 1


def test_leftovers_and_strangers_are_told_apart(maint: Maint, local: Repository) -> None:
    store(local, manifest=False)
    put(local, "holiday/beach.jpg", b"x" * 2000)
    out = maint("backups").out
    assert "no backup: main/shop/20261120T020000Z-0000/ in local" in out
    assert "no manifest: unfinished" in out
    assert "not maint's: 1 object in local (2.0 kB), as holiday/beach.jpg" in out


def test_two_installations_are_reported(maint: Maint, local: Repository) -> None:
    store(local)
    store(local, mark="0001", installation="other", host="there")
    out = maint("backups").out
    assert "warning: two installations write backups of server main to local" in out


def test_objectives_only_where_they_are_set(maint: Maint, local: Repository) -> None:
    store(local, NOW - 36 * HOUR)
    store(local, NOW - 9 * HOUR, database="ledger")
    assert "rpo" not in maint("backups").out
    maint.add('[objectives]\nrpo = "26h"\n')
    assert "rpo 26 h: broken: shop 1.5 d" in maint("backups").out
    assert "rpo 26 h: kept (9 h)" in maint("backups", "--database", "ledger").out


def test_every_objective_with_its_worst_database(maint: Maint, local: Repository) -> None:
    for database, days, seconds in (("shop", 10, 47), ("shop", 1, 56), ("ledger", 9, 20)):
        place = store(local, NOW - days * DAY, database=database)
        records.prove(local, place, records.Proof(place.id, Trust.PROVEN, NOW - days * DAY + HOUR, seconds, ()))
    store(local, NOW - 9 * HOUR, database="ledger")
    store(local, NOW - 60 * DAY, database="gone")
    maint.add('[objectives]\nrpo = "26h"\nproof = "8d"\nrto = "2h"\n')
    out = maint("backups").out
    expected = "proof 8 d: broken: ledger 9.0 d · rto 2 h: kept (0:56, +30 s a month)"
    assert f"rpo 26 h: kept (1.0 d) · {expected}" in out
    rows = maint.json("backups")
    assert len(rows) == 5
    of = {row["database"]: row["objectives"] for row in rows}
    assert of["gone"] is None  # the others were backed up, it was not
    assert (of["ledger"]["proof"]["state"], of["shop"]["proof"]["state"]) == ("broken", "kept")
    assert of["shop"]["rto"]["seconds"] == 56
    assert of["ledger"]["proof"]["limit_seconds"] == 8 * 86400


def test_objectives_of_a_server_and_of_a_database(maint: Maint, local: Repository) -> None:
    store(local, NOW - 36 * HOUR)
    store(local, NOW - 36 * HOUR, database="ledger")
    maint.add('[objectives]\nrpo = "26h"\n')
    assert "rpo 26 h: broken: " in maint("backups").out
    maint.add('[server.main]\ndsn = "host=/nowhere"\n[server.main.objectives]\nrpo = "2d"\nproof = "8d"\n')
    assert "rpo 2 d: kept (1.5 d) · proof 8 d: not measured: " in maint("backups").out
    maint.add('[server.main.objectives.database.ledger]\nrpo = "1d"\n')
    assert "rpo 24 h: broken: ledger 1.5 d" in maint("backups").out.replace("1 d:", "24 h:")
    assert "rpo 2 d: kept (1.5 d)" in maint("backups", "--database", "shop").out
    maint.add('[server.main.objectives.database."a b"]\nrpo = "1d"\n')
    assert '"a b" = { rpo = "1d" }' in maint("config", "show").out


def test_names_that_are_awkward(maint: Maint, local: Repository) -> None:
    name = 'two\nlines "ü" \x1b[31m'
    store(local, database=name)
    answer = maint("backups")
    assert "\x1b" not in answer.out
    assert len(answer.out.splitlines()) == 2
    assert maint.json("backups", "show", name)["manifest"]["database"] == name


# -- which backup ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("20261118", 18),
        ("20261118T020000Z-0000", 18),
        ("shop", 19),
        ("main/shop", 19),
        ("shop@newest", 19),
        ("shop@proven", 17),
        ("shop@2026-11-18", 18),
        ("shop@2026-11-18T01:00", 17),
        ("shop@2026-11-18T03:00+01:00", 18),
        ("main/shop@2026-11-30", 19),
        ("odd@newest", 16),
        ("odd@newest@newest", 16),
    ],
)
def test_a_backup_by_many_names(maint: Maint, local: Repository, text: str, day: int) -> None:
    for d in (17, 18, 19, 20):
        place = store(local, T0.replace(day=d))
        result = {17: Trust.PROVEN, 20: Trust.DAMAGED}.get(d)
        if result:
            records.prove(local, place, records.Proof(place.id, result, NOW, 1, ()))
    store(local, T0.replace(day=16), database="odd@newest")
    assert maint.json("backups", "show", text)["id"][6:8] == str(day)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("2026", "2026 may mean 20261120T020000Z-0001 (main/shop), 20261120T020000Z-0000 (other/shop)"),
        ("shop", "shop is backed up from several servers: main/shop, other/shop"),
        ("nothing", "there is no backup nothing"),
        ("main/shop@proven", "no backup of main/shop is proven"),
        ("main/shop@2020-01-01", "no good backup of main/shop was taken by 2020-01-01"),
        ("main/shop@yesterday", "@yesterday: not understood"),
    ],
)
def test_what_is_not_one_backup_is_one_clear_line(maint: Maint, local: Repository, text: str, says: str) -> None:
    store(local, server="other")
    store(local, mark="0001")
    answer = maint("backups", "show", text)
    assert answer.code == 2
    assert answer.err.splitlines()[0] == f"maint: {says}"
    assert answer.err.splitlines()[1].startswith("hint: ")


def test_show(maint: Maint, local: Repository, offsite: Repository) -> None:
    store(local)
    place = store(offsite)
    records.pin(offsite, place, "before 4.2", at=NOW)
    out = maint("backups", "show", "shop").out
    assert out.startswith("20261120T020000Z-0000 · shop on main · Fri 20 Nov 03:00 CET, ")
    assert "1 tables, 3 rows counted" in out
    assert str(maint.folder / "local" / place.prefix) in out
    assert maint("backups", "--server", "main", "show", "shop").code == 2


# -- pins --------------------------------------------------------------------------------------------------


def test_pin_and_unpin_in_every_repository(maint: Maint, local: Repository, offsite: Repository) -> None:
    store(local)
    store(offsite)
    assert maint("backups", "pin", "shop", "--reason", "before 4.2").code == 0
    assert [row["pinned"] for row in maint.json("backups")] == ["before 4.2"] * 2
    assert maint("backups", "unpin", "shop", "--repository", "offsite").code == 0
    assert [row["pinned"] for row in maint.json("backups")] == [None, "before 4.2"]
    assert "was not pinned" in maint("backups", "unpin", "shop").out
    assert maint("backups", "pin", "shop").code == 2


# -- check -------------------------------------------------------------------------------------------------

DIRECTORY = {"format": "directory", "compression": "none"}


def tar() -> bytes:
    import io
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as whole:
        info = tarfile.TarInfo("toc.dat")
        info.size = 1000
        whole.addfile(info, io.BytesIO(bytes(1000)))
    return out.getvalue()


def test_check_records_what_it_found(maint: Maint, local: Repository) -> None:
    store(local, raw=tar(), **DIRECTORY)
    answer = maint("backups", "check", "shop")
    assert (answer.code, answer.err) == (0, "")
    assert answer.out.startswith("checked  20261120T020000Z-0000  shop  in local  10 kB in ")
    assert answer.out.endswith(": read whole as a tar of 1 files\n")
    assert [row["trust"] for row in maint.json("backups")] == ["checked"]


def test_damage_is_exit_code_1_for_everyone(maint: Maint, local: Repository, offsite: Repository) -> None:
    store(local, raw=tar(), **DIRECTORY)
    place = store(offsite, raw=tar(), **DIRECTORY)
    path = Path(offsite.url_of(place / "dump.000"))
    path.write_bytes(b"y" + path.read_bytes()[1:])
    answer = maint("backups", "check", "--all", "--json")
    assert answer.code == 1
    assert [(found["repository"], found["result"]) for found in answer.json] == [
        ("offsite", "damaged"),
        ("local", "checked"),
    ]
    assert answer.json[0]["reason"] == "dump.000: digest differs"
    assert "dump.000: digest differs" in maint("backups").out
    assert maint("backups", "check", "shop", "--repository", "local").code == 0


def test_what_could_not_be_looked_at_is_exit_code_3(maint: Maint, local: Repository) -> None:
    key = pyrage.x25519.Identity.generate()
    store(local, raw=tar(), recipients=[str(key.to_public())], **DIRECTORY)
    answer = maint("backups", "check", "shop")
    assert answer.code == 3
    assert "not decrypted: there is no key here (identity_file)" in answer.out
    path = maint.folder / "age.key"
    path.write_text(str(key))
    maint.write(
        maint.config.read_text().replace("[repository.offsite]", f'identity_file = "{path}"\n[repository.offsite]')
    )
    answer = maint("backups", "check", "shop")
    assert (answer.code, answer.out.split(": ")[1]) == (0, "decrypted; read whole as a tar of 1 files\n")


def test_check_wants_to_know_which(maint: Maint, local: Repository) -> None:
    store(local)
    assert maint("backups", "check").code == 2
    assert maint("backups", "check", "shop", "--all").code == 2


# -- prune -------------------------------------------------------------------------------------------------


def test_prune_explains_and_deletes_only_when_confirmed(maint: Maint, local: Repository) -> None:
    for days in range(1, 5):
        store(local, NOW - days * DAY)
    before = ids(maint)
    answer = maint("backups", "prune")
    assert answer.code == 0
    lines = answer.out.splitlines()
    assert [line.split()[:2] for line in lines[:4]] == [
        [w, i] for w, i in zip(["keep"] * 2 + ["delete"] * 2, before, strict=True)
    ]
    assert lines[0].endswith("  newest good; last 1 of 2")
    assert lines[3].endswith("  beyond last 2")
    assert lines[4].endswith(" in 2 backups. Nothing was deleted: add --confirm.")
    assert ids(maint) == before
    answer = maint("backups", "prune", "--confirm")
    assert answer.out.splitlines()[:4] == lines[:4]
    assert answer.out.splitlines()[4].startswith("deleted 2 backups, freed ")
    assert ids(maint) == before[:2]
    assert maint("backups", "prune", "--confirm").out.splitlines()[-1].startswith("deleted 0 backups")
    assert {entry.path.split("/")[2] for entry in local.list()} == set(before[:2])


def test_what_if_never_deletes(maint: Maint, local: Repository) -> None:
    for days in range(1, 5):
        store(local, NOW - days * DAY)
    answer = maint("backups", "prune", "--what-if", "last=1,within=2d")
    assert [line.split()[0] for line in answer.out.splitlines()] == ["keep"] * 3 + ["delete", "frees"]
    assert maint("backups", "prune", "--what-if", "last=1", "--confirm").code == 2
    for wrong in ("last", "last=x", "lst=3", "", "within=3"):
        assert maint("backups", "prune", "--what-if", wrong).code == (2 if wrong else 0), wrong
    assert len(ids(maint)) == 4


def test_prune_touches_only_its_own(maint: Maint, local: Repository, offsite: Repository) -> None:
    for days in range(1, 4):
        store(local, NOW - days * DAY, mark="0001", installation="other")
        store(local, NOW - days * DAY, mark="0002", job="gone")
        store(offsite, NOW - days * DAY, mark="0003")
        store(local, NOW - days * DAY, mark="0004", database="shop2")
    maint.job("backup", KEEP + 'repositories = ["local"]\n')
    answer = maint("backups", "prune", "--confirm")
    assert answer.code == 0
    assert "not looked at: 3 backups made by installation other" in answer.out
    assert "not looked at: 3 backups made by a job gone that is no longer configured" in answer.out
    assert "not looked at: 3 backups in offsite, which job backup no longer writes to" in answer.out
    left = [id_[-4:] for id_ in ids(maint)]
    assert {mark: left.count(mark) for mark in left} == {"0001": 3, "0002": 3, "0003": 3, "0004": 2}


def test_prune_without_keep_deletes_nothing(maint: Maint, local: Repository) -> None:
    maint.job("mine", 'task = "backup"\n')
    for days in range(1, 9):
        store(local, NOW - days * DAY, job="mine")
    answer = maint("backups", "prune", "--confirm", "--job", "mine")
    assert "8 backups of job mine, which has no keep" in answer.out
    assert len(ids(maint)) == 8
    assert maint("backups", "prune", "--job", "nobody").code == 2


def test_what_cannot_be_deleted_is_told(maint: Maint, local: Repository) -> None:
    for days in range(1, 4):
        place = store(local, NOW - days * DAY)
    name = Path(local.url_of(place / "manifest.json"))
    outside = maint.folder / "elsewhere"
    name.parent.rename(outside)
    name.parent.symlink_to(outside)
    assert len(ids(maint)) == 2  # a link is no backup: the listing does not follow it
    assert maint("backups", "prune", "--confirm").code == 0
    assert (outside / "manifest.json").exists()


def test_prune_in_json(maint: Maint, local: Repository) -> None:
    for days in range(1, 4):
        store(local, NOW - days * DAY)
    rows = maint.json("backups", "prune", "--confirm")
    assert [(row["decision"], row["deleted"]) for row in rows] == [("keep", False), ("keep", False), ("delete", True)]
    assert rows[2]["reasons"] == ["beyond last 2"]


# -- S3 ----------------------------------------------------------------------------------------------------


def test_locked_backups_are_no_error(configured: Callable[..., Maint], moto: Store) -> None:
    bucket = moto.bucket(ObjectLockEnabledForBucket=True)
    offsite = open_repository(moto.config(bucket, lock="30d"))
    for days in range(1, 4):
        store(offsite, NOW - days * DAY)
    maint = configured()
    maint.write(
        f"""installation = "test"
[repository.offsite]
url = "s3://{bucket}/some/prefix"
endpoint = "{moto.endpoint}"
access_key = "{ACCESS_KEY}"
secret_key = "{SECRET_KEY}"
"""
    )
    maint.job("backup", KEEP)
    answer = maint("backups", "prune", "--confirm")
    assert answer.code == 0, answer
    assert "locked until " in answer.out
    assert len(ids(maint)) == 3
