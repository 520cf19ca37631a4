"""RESTORE.md, word for word, with stock tools only: no maint, none of its Python."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pyrage
import pytest
from support.dumps import NEWEST, counts, folder_of, instructions
from support.maint import Maint
from support.postgres import Database
from support.repositories import write_with
from support.restores import backed_up, flip, volumes
from support.s3 import Store

MakeDatabase = Callable[..., Database]
Configured = Callable[..., Maint]

#: what RESTORE.md may take for granted
TOOLS = {"sha256sum", "cat", "zstd", "age", "psql", "createdb", "pg_restore", "vacuumdb", "mkdir", "tar"}

FORMATS = pytest.mark.parametrize("format_", ["custom", "directory"])


def _stock(folder: Path, database: Database) -> Path:
    """Return a folder with the stock tools and nothing else."""
    found = folder / "stock"
    found.mkdir()
    for name in ("bash", *TOOLS):
        own = database.cluster.installation.bin_dir / name
        if path := own if own.exists() else shutil.which(name):
            (found / name).symlink_to(path)
    return found


def _follow(folder: Path, database: Database, tools: Path) -> Database:
    """Do what it says on the database's own server, where no database has that name any more."""
    cluster = database.cluster
    Database(cluster, "postgres").execute(
        f'ALTER DATABASE "{database.name.replace(chr(34), chr(34) * 2)}" RENAME TO moved'
    )
    environment = {"PATH": str(tools), "PGHOST": str(cluster.socket_dir), "PGPORT": str(cluster.port)}
    try:
        for command in instructions(folder):
            done = subprocess.run(
                [str(tools / "bash"), "-e", "-o", "pipefail", "-c", command],
                cwd=folder,
                env=environment | {"PGUSER": "postgres", "LANG": "C.UTF-8"},
                capture_output=True,
                text=True,
                check=False,
            )
            # psql says that the roles are there already, and goes on
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    finally:
        Database(cluster, "postgres").execute("DROP DATABASE moved WITH (FORCE)")
    return database


@FORMATS
@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
def test_each_format(database: Database, configured: Configured, tmp_path: Path, format_: str, encrypted: bool) -> None:
    if encrypted and not shutil.which("age"):
        pytest.skip("there is no age here")
    key = pyrage.x25519.Identity.generate()
    maint = configured(database)
    if encrypted:
        maint.add(f'encrypt_to = ["{key.to_public()}"]\n')
    backed_up(maint, f'format = "{format_}"')
    before = counts(database)
    folder = shutil.copytree(folder_of(maint), tmp_path / "downloaded")
    (folder / "key.txt").write_text(f"{key}\n")
    copy = _follow(folder, database, _stock(tmp_path, database))
    assert counts(copy) == before
    assert copy.value("SELECT total FROM sales.totals WHERE customer_id = 7") is not None
    assert copy.value("SELECT count(*) FROM pg_constraint WHERE conname = 'orders_customer_id_fkey'") == 1
    assert copy.value("SELECT count(*) FROM pg_largeobject_metadata") == 1
    assert copy.value("SELECT reltuples FROM pg_class WHERE relname = 'orders'") == 500


@NEWEST
@FORMATS
def test_several_volumes(
    database: Database, configured: Configured, tmp_path: Path, rclone: Store, format_: str
) -> None:
    database.execute(
        "CREATE TABLE public.bulk AS SELECT i, md5(i::text) || md5((i * 7)::text) || random() AS text"
        " FROM generate_series(1, 150000) AS i"
    )
    bucket = rclone.bucket()
    maint = configured(database)
    write_with(maint, database, rclone.config(bucket, max_parts=1))
    backed_up(maint, f'format = "{format_}"')
    before = counts(database)
    assert rclone.root is not None
    folder = shutil.copytree(folder_of(maint, rclone.root / bucket), tmp_path / "downloaded")
    assert len(volumes(folder)) > 1
    assert counts(_follow(folder, database, _stock(tmp_path, database))) == before


@NEWEST
@pytest.mark.parametrize(
    "name",
    [
        "Upper Case",
        'it\'s "quoted"',
        "two\nlines\tand a tab",
        "größe-数据-🐘",
        "-starts-with-a-dash",
        "a=b",
        "`id` $HOME",
    ],
)
def test_hostile_names(make_database: MakeDatabase, configured: Configured, tmp_path: Path, name: str) -> None:
    database = make_database(name)
    maint = backed_up(configured(database))
    before = counts(database)
    folder = shutil.copytree(folder_of(maint), tmp_path / "downloaded")
    assert counts(_follow(folder, database, _stock(tmp_path, database))) == before


@NEWEST
def test_a_file_that_changed_is_found_by_the_first_command(
    database: Database, configured: Configured, tmp_path: Path
) -> None:
    maint = backed_up(configured(database))
    folder = shutil.copytree(folder_of(maint), tmp_path / "downloaded")
    flip(volumes(folder)[-1])
    first = instructions(folder)[0]
    tools = _stock(tmp_path, database)
    done = subprocess.run([str(tools / "bash"), "-c", first], cwd=folder, env={"PATH": str(tools)}, capture_output=True)
    assert done.returncode != 0


@NEWEST
@FORMATS
def test_it_asks_for_stock_tools_only(database: Database, configured: Configured, format_: str) -> None:
    maint = configured(database)
    maint.add('encrypt_to = ["age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"]\n')
    backed_up(maint, f'format = "{format_}"')
    words = {part.split()[0] for line in instructions(folder_of(maint)) for part in line.replace(";", "|").split("|")}
    assert words <= TOOLS
    assert os.sep not in "".join(words)
