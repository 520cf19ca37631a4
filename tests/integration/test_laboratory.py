"""Expensive checks on the restored copy: they see what is wrong there, and say where."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.dumps import backup_job
from support.maint import Maint
from support.postgres import Database
from support.proofs import edit_manifest, verify, verify_job


@pytest.fixture
def maint(database: Database, configured: Callable[..., Maint], open_folder: Path) -> Maint:
    database.execute(
        "CREATE TABLE public.bloated AS SELECT i, repeat('x', 200) AS filler FROM generate_series(1, 70000) AS i;"
        "CREATE INDEX by_i ON public.bloated (i);"
        "DELETE FROM public.bloated WHERE i % 4 <> 0;"
    )
    database.execute("VACUUM (ANALYZE, TRUNCATE OFF) public.bloated")
    one = configured(database)
    one.environment["TMPDIR"] = str(open_folder)
    backup_job(one)
    verify_job(one, 'laboratory = ["amcheck", "bloat"]')
    assert one("run", "backup").code == 0
    return one


def smaller() -> None:
    """What is worth a word is as small as the test's tables."""
    from maint.checks import bloat

    inner = bloat.Options
    bloat.Options = lambda *arguments: inner(*arguments, least_bytes=1 << 19)  # type: ignore[assignment,misc]


def test_bloat_is_the_difference(maint: Maint, database: Database) -> None:
    answer, said = verify(maint, first=smaller)
    assert answer.code == 3
    assert said["verified"][0]["result"] == "proven"
    found = {finding["check"]: finding for finding in said["findings"]}
    assert {finding["where"] for finding in said["findings"]} == {"laboratory"}
    assert set(found) == {"bloat.table", "bloat.index", "bloat.total"}
    assert found["bloat.table"]["object"] == f"{database.name}/public.bloated"
    assert found["bloat.index"]["object"] == f"{database.name}/public.by_i"
    size = database.value("SELECT pg_relation_size('public.bloated')")
    lost = int(found["bloat.table"]["value"].split()[0])
    assert 0.7 * size < lost < 0.8 * size
    shown = maint.json("show", "2")["findings"]
    assert {finding["where"] for finding in shown} == {"laboratory"}
    edit_manifest(maint, lambda m: m["contents"].pop("sizes"))
    verify_job(maint, f'laboratory = ["bloat"]\nbackup = "{database.name}"')
    answer, said = verify(maint)
    assert answer.code == 0
    assert [finding["message"] for finding in said["findings"]] == [f"the bloat of {database.name} cannot be told"]


def corrupted() -> None:
    """A row that is missing in an index, and a heap page that is not what it was."""
    from maint.checks import amcheck
    from maint.postgres import connect
    from maint.tasks.verify import places

    inner, made = amcheck.check, places.Place.make_amcheck
    admin: dict[str, Any] = {}

    def remembered(self: places.Place) -> str | None:
        admin["place"] = self
        return made(self)

    def check(*arguments: Any) -> Any:
        with connect(admin["place"].admin, admin["place"].database) as connection:
            index = "indexrelid = 'public.customers_pkey'::regclass"
            connection.execute(f"UPDATE pg_catalog.pg_index SET indisready = false WHERE {index}")
            connection.execute("INSERT INTO public.customers (name, email) VALUES ('unseen', 'x')")
            connection.execute(f"UPDATE pg_catalog.pg_index SET indisready = true WHERE {index}")
            connection.execute("UPDATE pg_catalog.pg_class SET relfrozenxid = '4000000' WHERE relname = 'nothing'")
        return inner(*arguments)

    places.Place.make_amcheck = remembered  # type: ignore[method-assign]
    amcheck.check = check


def test_amcheck_sees_what_is_corrupt(maint: Maint, database: Database) -> None:
    verify_job(maint, 'laboratory = ["amcheck"]')
    answer, said = verify(maint, first=corrupted)
    assert answer.code == 3
    found = {finding["object"]: finding for finding in said["findings"]}
    index = found[f"{database.name}/public.customers_pkey"]
    assert (index["check"], index["severity"], index["where"]) == ("amcheck.index", "critical", "laboratory")
    assert "lacks matching index tuple" in index["message"]
    verify_job(maint, f'laboratory = ["amcheck"]\nbackup = "{database.name}"')
    answer, said = verify(maint)
    assert (answer.code, said["findings"]) == (0, [])
